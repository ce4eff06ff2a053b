"""Fills the generated parts of the site: `--help` of every verb, and the docstrings of every module.

A page says `<!-- verbs -->` or `<!-- modules -->` where they belong, and `<!-- file NAME -->` for a file of the
repository.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PARTS = (
    *("errors", "tensors", "wire", "engines", "runtime", "platforms", "graph", "planner", "workflow", "slicing"),
    *("packaging", "checking", "converters", "stores", "targets", "gateway"),
)


def on_page_markdown(markdown: str, **_: object) -> str:
    """MkDocs calls this with the text of each page."""
    if "<!-- verbs -->" in markdown:
        markdown = markdown.replace("<!-- verbs -->", _verbs())
    if "<!-- modules -->" in markdown:
        markdown = markdown.replace("<!-- modules -->", _modules())
    return re.sub(r"<!-- file (\S+) -->", lambda match: (ROOT / match[1]).read_text(), markdown)


def _verbs() -> str:
    from typer.main import get_group

    from lamella.cli.app import app

    sections = [f"## lamella\n\n{_help()}"]
    sections += [f"## lamella {verb}\n\n{_help(verb)}" for verb in get_group(app).commands]
    return "\n\n".join(sections)


def _help(*verb: str) -> str:
    plain = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    program = f"import sys; from lamella.cli import main; sys.argv = {['lamella', *verb, '--help']}; main()"
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=plain
    ).stdout
    lines = "\n".join(line.rstrip() for line in shown.strip("\n").splitlines())
    return f"```text\n{lines}\n```"


def _modules() -> str:
    return "\n\n".join(f"## {part}\n\n{_directives(part)}" for part in PARTS if _files(part))


def _files(part: str) -> list[Path]:
    source = ROOT / "src" / "lamella"
    found = (source / f"{part}.py", *sorted((source / part).rglob("*.py")))
    return [f for f in found if f.exists() and not f.stem.endswith("_pb2")]  # those are described by their `.proto`


def _directives(part: str) -> str:
    names = [".".join(file.relative_to(ROOT / "src").with_suffix("").parts) for file in _files(part)]
    return "\n\n".join(
        f"::: {name.removesuffix('.__init__')}\n    options:\n      show_root_full_path: true" for name in names
    )
