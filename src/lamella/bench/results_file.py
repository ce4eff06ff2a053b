"""`results.json`: a measurement as a file. Its JSON schema is `results.schema.json` beside this."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from lamella.bench.results import FunctionUnderTest, Place, Results, Run, Sample, Setting, Subject, Verdict
from lamella.bench.summary import summarize
from lamella.errors import UsageError
from lamella.runtime import json_fields as fields
from lamella.slicing.placement import write_atomically

SCHEMA = "lamella.results/1"


def to_json(results: Results) -> dict[str, object]:
    """Results as the file has them: the summary is in it, too, for whoever reads it without Lamella."""
    return {
        "schema": SCHEMA,
        "kind": results.kind,
        "created": results.created,
        "subject": asdict(results.subject),
        "place": asdict(results.place),
        "settings": dict(results.settings),
        "summary": asdict(summarize(results)),
        "verdict": asdict(results.verdict),
        "samples": [_sample_json(sample) for sample in results.samples],
    }


def written(results: Results) -> str:
    """The file's text, with a line for each sample."""
    content = to_json(results)
    samples = content.pop("samples")
    assert isinstance(samples, list)
    lines = ",\n".join(f"  {json.dumps(sample)}" for sample in samples)
    head = json.dumps(content, indent=1).removesuffix("\n}")
    return f'{head},\n "samples": [{f"{chr(10)}{lines}{chr(10)} " if lines else ""}]\n}}\n'


def write_results(results: Results, path: Path) -> None:
    """Write a results file, whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    text = written(results)
    write_atomically(path, lambda partial: partial.write_text(text))


def read_results(path: Path) -> Results:
    """Read a results file. Its summary is made anew by `lamella.bench.summarize`, not read.

    Raises:
        UsageError: It cannot be read, is no results file, or one of another version of Lamella.
    """
    try:
        content = fields.members(json.loads(path.read_text()))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot read `{path}`: {reason}", hint="give a results file") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"`{path}` is no results file: {error}", hint="give what a measurement has written") from error
    schema = content.get("schema")
    if schema != SCHEMA:
        raise UsageError(
            f"`{path}` has the schema `{schema}`, not `{SCHEMA}`",
            hint="use the version of Lamella that wrote it, or measure again",
        )
    try:
        return _results(content)
    except KeyError as error:
        raise UsageError(f"`{path}` is damaged: {error} is missing", hint="measure again") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"`{path}` is damaged: {error}", hint="measure again") from error


def _sample_json(sample: Sample) -> dict[str, object]:
    derived = {"cold_start": sample.cold_start, "billed_ms": sample.billed_ms, "usd": sample.usd}
    return {**{name: value for name, value in asdict(sample).items() if name != "runs"}, **derived} | {
        "runs": [asdict(run) for run in sample.runs]
    }


def _results(content: Mapping[str, object]) -> Results:
    verdict = fields.members(content["verdict"])
    return Results(
        fields.text(content["kind"]),
        fields.text(content["created"]),
        _subject(fields.members(content["subject"])),
        _place(fields.members(content["place"])),
        {name: _setting(value) for name, value in fields.members(content["settings"]).items()},
        tuple(_sample(entry) for entry in fields.objects(content["samples"])),
        Verdict(_truth(verdict["valid"]), tuple(fields.text(reason) for reason in fields.items(verdict["reasons"]))),
    )


def _subject(entry: Mapping[str, object]) -> Subject:
    functions = (
        FunctionUnderTest(
            fields.size(one["slice"]),
            fields.text(one["function"]),
            fields.size(one["memory_mb"]),
            fields.text(one["sha256"]),
        )
        for one in fields.objects(entry["functions"])
    )
    names = ("name", "model", "file", "target", "platform", "architecture", "engine", "delivery")
    given = {name: fields.text(entry[name]) for name in names}
    return Subject(
        **given,
        version=None if entry["version"] is None else fields.size(entry["version"]),
        functions=tuple(functions),
        scenario=_maybe_text(entry["scenario"]),
        mode=_maybe_text(entry["mode"]),
    )


def _place(entry: Mapping[str, object]) -> Place:
    return Place(
        _maybe_text(entry["region"]),
        fields.text(entry["system"]),
        fields.text(entry["processor"]),
        fields.size(entry["processors"]),
        fields.size(entry["memory_bytes"]),
        fields.text(entry["python"]),
        {name: fields.text(value) for name, value in fields.members(entry["versions"]).items()},
        _maybe_text(entry["commit"]),
    )


def _sample(entry: Mapping[str, object]) -> Sample:
    return Sample(
        fields.text(entry["request"]),
        fields.number(entry["began_ms"]),
        fields.number(entry["latency_ms"]),
        fields.text(entry["status"]),
        _truth(entry["whole"]),
        tuple(_run(run) for run in fields.objects(entry["runs"])),
        _phases(entry["phases"]),
    )


def _run(entry: Mapping[str, object]) -> Run:
    return Run(
        None if entry["slice"] is None else fields.size(entry["slice"]),
        fields.text(entry["function"]),
        fields.number(entry["ended_ms"]),
        fields.number(entry["duration_ms"]),
        _maybe_number(entry["billed_ms"]),
        fields.number(entry["memory_mb"]),
        _maybe_number(entry["max_memory_mb"]),
        _maybe_number(entry["init_ms"]),
        _maybe_number(entry["usd"]),
        fields.text(entry["status"]),
        _phases(entry["phases"]),
    )


def _phases(value: object) -> dict[str, float]:
    return {name: fields.number(one) for name, one in fields.members(value).items()}


def _maybe_number(value: object) -> float | None:
    return None if value is None else fields.number(value)


def _maybe_text(value: object) -> str | None:
    return None if value is None else fields.text(value)


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, found {value!r:.40}")
    return value


def _setting(value: object) -> Setting:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"expected a plain value, found {type(value).__name__}")
