// What HashiCorp's own code says of a `main.tf.json`: `node terraform_schema.cjs main.tf.json FOLDER`, with FOLDER for files.
//
// - Its parser of HCL reads the file, written in the native syntax, as what the JSON says (@cdktf/hcl2json).
// - Every argument of every resource, and every attribute that an expression refers to, is one of the AWS provider's
//   schema, with its type, and none that is required lacks (@cdktf/provider-aws is generated from the schema).

const { readFileSync, writeFileSync } = require("node:fs");
const { isDeepStrictEqual } = require("node:util");
const { join } = require("node:path");
const { parse, getReferencesInExpression } = require("@cdktf/hcl2json");
const typescript = require("typescript");

const [path, folder] = process.argv.slice(2);
const main = JSON.parse(readFileSync(path, "utf8"));
const META = ["for_each", "depends_on", "lifecycle"]; // Terraform's own, in every resource
const BLOCKS = ["required_providers", "image_scanning_configuration", "lifecycle"];
const LABELS = { terraform: 0, provider: 1, output: 1, resource: 2 };
const problems = [];

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const indent = (text) => text.replace(/^/gm, "  ");

function native(value) {
  if (typeof value === "string") return `"${value.replaceAll("\n", "\\n")}"`;
  if (Array.isArray(value)) return `[${value.map(native).join(", ")}]`;
  if (!isObject(value)) return String(value);
  return `{\n${indent(Object.entries(value).map(([key, one]) => `"${key}" = ${native(one)}`).join("\n"))}\n}`;
}

function attribute([name, value]) {
  if (BLOCKS.includes(name)) return block(name, [], value);
  return `${name} = ${name === "depends_on" ? `[${value.join(", ")}]` : native(value)}`;
}

function block(kind, labels, content) {
  const head = [kind, ...labels.map((label) => `"${label}"`)].join(" ");
  return `${head} {\n${indent(Object.entries(content).map(attribute).join("\n"))}\n}`;
}

function blocks(kind, content, labels = []) {
  if (labels.length === LABELS[kind]) return [block(kind, labels, content)];
  return Object.entries(content).flatMap(([label, below]) => blocks(kind, below, [...labels, label]));
}

// The parser has a list where a block may be repeated, and `${...}` around what refers to something.
function same(found, said, name) {
  if (Array.isArray(found) && isObject(said)) return found.length === 1 && same(found[0], said, name);
  if (name === "depends_on") return isDeepStrictEqual(found, said.map((one) => `\${${one}}`));
  if (!isObject(said)) return isDeepStrictEqual(found, said);
  const names = Object.keys(said);
  return Object.keys(found).length === names.length && names.every((one) => same(found[one], said[one], one));
}

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
const module_of = (kind) => kind.replace(/^aws_/, "").replaceAll("_", "-");
const class_of = (kind) => camel(`_${kind.replace(/^aws_/, "")}`);

function typed(value, isMap = false) {
  if (Array.isArray(value)) return value.map((one) => typed(one));
  if (!isObject(value)) return value;
  const free = (name) => isMap || ["tags", "parameters"].includes(name);
  return Object.fromEntries(
    Object.entries(value).map(([name, one]) => [isMap ? name : camel(name), typed(one, free(name))]),
  );
}

async function references() {
  const found = [];
  const look = async (value) => {
    if (isObject(value) || Array.isArray(value)) for (const one of Object.values(value)) await look(one);
    else if (typeof value === "string")
      found.push(...(await getReferencesInExpression("main.tf", value)).map((reference) => reference.value));
  };
  await look(main);
  return found.filter((reference) => reference.startsWith("aws_")).map((reference) => reference.split("."));
}

async function check() {
  const text = Object.entries(main).flatMap(([kind, content]) => blocks(kind, content)).join("\n\n");
  if (!same(await parse("main.tf", text), main)) problems.push(`the parser reads it otherwise:\n${text}`);
  const lines = [];
  for (const [kind, entries] of Object.entries(main.resource)) {
    lines.push(`import { ${class_of(kind)}, ${class_of(kind)}Config } from "@cdktf/provider-aws/lib/${module_of(kind)}";`);
    for (const [name, entry] of Object.entries(entries)) {
      const own = Object.fromEntries(Object.entries(entry).filter(([argument]) => !META.includes(argument)));
      lines.push(`const ${kind}_${name}: ${class_of(kind)}Config = ${JSON.stringify(typed(own))};`);
    }
    lines.push(`declare const ${kind}: ${class_of(kind)};`);
  }
  for (const [kind, name, read] of await references()) {
    if (!main.resource[kind]?.[name]) problems.push(`there is no ${kind}.${name}`);
    else if (read) lines.push(`${kind}.${camel(read)};`);
  }
  const file = join(folder, "schema.ts");
  writeFileSync(file, lines.join("\n"));
  const options = { noEmit: true, strict: true, skipLibCheck: true, module: typescript.ModuleKind.CommonJS };
  const said = typescript.getPreEmitDiagnostics(typescript.createProgram([file], options));
  problems.push(...said.map((one) => typescript.flattenDiagnosticMessageText(one.messageText, "\n")));
  const resources = Object.values(main.resource).flatMap((entries) => Object.values(entries));
  console.log(problems.join("\n") || resources.length);
  process.exit(problems.length ? 1 : 0);
}

check().catch((error) => {
  console.log(error.message ?? error);
  process.exit(1);
});
