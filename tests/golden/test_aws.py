"""Templates word for word, and what AWS's own linter says of them.

After a change that is meant, `LAMELLA_UPDATE_GOLDEN=1 python -m pytest tests/golden` writes them anew; read the diff.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.aws_stacks import DELIVERIES, DOORS, NAMES, chain, release, settings, side_by_side, stack

from lamella.packaging.door import HANDLER
from lamella.targets.aws.export import exported
from lamella.targets.aws.outside import from_outside
from lamella.targets.aws.settings import HttpApi
from lamella.targets.aws.template import foundation, published, template, written

GOLDEN = Path(__file__).parent / "aws"
UPDATE = bool(os.environ.get("LAMELLA_UPDATE_GOLDEN"))
JWT = HttpApi("jwt", "https://issuer.example", ("bert",))


def templates() -> dict[str, dict[str, Any]]:
    """Every way in which models are delivered with every way in which slices are joined, then what else there is."""
    found = {
        f"{name}-{workflow}": stack(settings(workflow=workflow, **delivery), chain(2))
        for name, delivery in DELIVERIES.items()
        for workflow in ("express", "standard", "direct")
        if not (workflow == "direct" and "mount" in delivery)
    }
    warm: dict[str, Any] = {"provisioned_concurrency": 1, "tracing": True}
    return {
        **found,
        "foundation": foundation(NAMES, settings()),
        "foundation-image": foundation(NAMES, settings(delivery="image")),
        "image-single-door": stack(settings(delivery="image", function_url=True), chain(1), handler=HANDLER),
        "doors": stack(settings(**DOORS), side_by_side()),
        "doors-single-jwt": stack(settings(**{**DOORS, "http_api": JWT}, snap_start=True), chain(1)),
        "doors-direct-warm": stack(settings(workflow="direct", function_url=True, **warm), chain(2)),
        **{f"outside-{name}": outside(name) for name in ("object-store", "image")},
        "no-quota": stack(settings(concurrency=None, function_url=True), chain(1), chain(2, "gpt")),
    }


def outside(delivery: str) -> dict[str, Any]:
    """What is exported."""
    chosen = settings(function_url=True, **DELIVERIES[delivery])
    made = published(NAMES, chosen, release(chosen, chain(2)))
    return from_outside(template(NAMES, chosen, [made], live=1), made).template


def check(name: str, text: str) -> None:
    path = GOLDEN / name
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", templates())
def test_template(name: str) -> None:
    check(f"{name}.json", written(templates()[name]))


@pytest.mark.parametrize("delivery", ["object-store", "image"])
@pytest.mark.parametrize("tool", ["cloudformation", "terraform", "cdk"])
def test_export(tool: Any, delivery: str) -> None:
    chosen = settings(**DELIVERIES[delivery])
    made = published(NAMES, chosen, release(chosen, chain(2)))
    files = exported(tool, NAMES, chosen, made, template(NAMES, chosen, [made], live=1))
    files.pop("template.json")
    check(f"export-{tool}-{delivery}.txt", "".join(f"--- {name}\n{text}" for name, text in files.items()))


def lint(*paths: Path) -> subprocess.CompletedProcess[str]:
    run = "from cfnlint.runner import main; main()"
    command = [sys.executable, "-c", run, "--regions", NAMES.region, "--", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_aws_linter_has_no_complaint(tmp_path: Path) -> None:
    opened = [with_open_workflows(name, tmp_path) for name in templates()]
    result = lint(*(GOLDEN / f"{name}.json" for name in templates()), *opened)
    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr


def test_aws_linter_would_complain(tmp_path: Path) -> None:
    path = with_open_workflows("package-express", tmp_path)
    found = json.loads(path.read_text())
    machine = next(e for e in found["Resources"].values() if e["Type"] == "AWS::StepFunctions::StateMachine")
    machine["Properties"]["Definition"]["StartAt"] = "Nowhere"
    path.write_text(json.dumps(found))
    assert "E3601" in lint(path).stdout


def with_open_workflows(name: str, folder: Path) -> Path:
    """A template with its workflows as objects, which the linter looks into."""
    found = templates()[name]
    for entry in found["Resources"].values():
        if entry["Type"] == "AWS::StepFunctions::StateMachine":
            text = entry["Properties"].pop("DefinitionString")["Fn::Sub"]
            plain = re.sub(r"\$\{(\w+)\}", r"\1", text.replace("${AWS::Partition}", "aws"))
            entry["Properties"]["Definition"] = json.loads(plain)
    path = folder / f"{name}-open.json"
    path.write_text(json.dumps(found))
    return path
