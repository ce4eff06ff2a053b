"""`lamella check`."""

import os
import shlex
from pathlib import Path

import pytest
from tests import models
from tests.functional.cli.conftest import Lamella, Process

OWN = """\
schema = "lamella.platform/1"
extends = "aws-lambda"
name = "small"

[limits.package_unzipped_bytes]
value = {package}
unit = "bytes"
source = "our own cluster"
as_of = 2026-11-21
"""

KEYS = {"limit", "title", "slice", "value", "allowed", "unit", "verdict", "origin", "source", "detail", "hint"}


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_json_has_the_keys_of_the_contract(lamella: Lamella) -> None:
    result = lamella("check", "mlp.onnx", "--platform", "aws-lambda", "--profile", "new-account", "--json")
    assert (result.status, result.err) == (0, "")
    shown = result.json
    assert shown["schema"] == "lamella.check/1"
    assert (shown["fits"], shown["violations"], shown["minimum_slices"]) == (True, [], 1)
    assert (shown["platform"], shown["profile"], shown["memory_mb"]) == ("aws-lambda", "new-account", 3008)
    assert all(check.keys() == KEYS for check in shown["checks"])
    assert shown["closure"]["unzipped_bytes"] == shown["closure"]["own_bytes"] + sum(
        wheel["unzipped_bytes"] for wheel in shown["closure"]["wheels"]
    )
    assert "onnxruntime" in {wheel["name"] for wheel in shown["closure"]["wheels"]}


def test_what_does_not_fit_is_exit_status_1_with_the_way_out(lamella: Lamella, folder: Path) -> None:
    models.mlp(folder / "wide.onnx", layers=6, width=1024)  # 25 MB of weights
    closure = lamella("check", "mlp.onnx", "--platform", "aws-lambda", "--no-run", "--json").json["closure"]
    limit = closure["unzipped_bytes"] + (10 << 20)
    (folder / "small.toml").write_text(OWN.format(package=limit))
    result = lamella("check", "wide.onnx", "--platform", "small.toml", "--json")
    assert (result.status, result.err) == (1, "")
    shown = result.json
    assert shown["fits"] is False
    (violation,) = shown["violations"]
    assert violation.keys() == KEYS
    assert violation["limit"] == "package_unzipped_bytes"
    assert violation["allowed"] == limit < violation["value"]
    assert violation["source"] == "our own cluster (2026-11-21)"
    assert shown["minimum_slices"] == 3
    told = violation["hint"].split("`")[1].removeprefix("lamella ").split()
    assert told[:2] == ["slice", "wide.onnx"]
    assert lamella(*told, "-o", "wide.slices").status == 0
    assert lamella("check", "wide.slices", "--platform", "small.toml", "--no-run").status == 0


def test_table_shows_value_allowed_and_verdict_and_what_to_do(lamella: Lamella, folder: Path) -> None:
    (folder / "small.toml").write_text(OWN.format(package=1 << 20))
    result = lamella("check", "mlp.onnx", "--platform", "small.toml", "--no-run")
    assert result.status == 1
    lines = result.out.splitlines()
    assert lines[0].split() == ["check", "value", "allowed", "how", "fits"]
    (package,) = (line.split() for line in lines if line.startswith("package, unzipped"))
    assert package[-2:] == ["counted", "NO"]
    assert "does not fit  package, unzipped" in lines
    assert any(line.startswith("source        our own cluster") for line in lines)
    assert any(line.startswith("what to do    no number of slices fits the model") for line in lines)
    assert lines[-1] == "does not fit small, x86_64, 10,240 MB: 1 limit; no number of slices fits"


def test_table_of_slices_shows_the_one_nearest_to_each_limit(lamella: Lamella) -> None:
    assert lamella("slice", "mlp.onnx", "--slices", "3", "-o", "mlp.slices").status == 0
    result = lamella("check", "mlp.slices", "--platform", "aws-lambda", "--no-run")
    assert result.status == 0
    titles = [line.partition("  ")[0] for line in result.out.splitlines()[1:-2]]
    assert len([title for title in titles if title.startswith("package of slice")]) == 2
    assert len([title for title in titles if title.startswith("memory of slice")]) == 1


def test_what_fits_says_so_and_warnings_go_to_stderr(lamella: Lamella, folder: Path) -> None:
    models.residual_conv(folder / "conv.onnx")
    result = lamella("check", "conv.onnx", "--platform", "aws-lambda", "--memory", "1769", "--architecture", "arm64")
    assert result.status == 0
    assert result.out.splitlines()[-1] == "fits aws-lambda, arm64, 1,769 MB"
    assert result.err.startswith("warning: batch: the first dimension of input `image` is fixed at 1; ")


def test_names_in_a_model_reach_the_terminal_as_escapes(lamella: Lamella, folder: Path) -> None:
    from onnx import helper, save

    name = "x\x1b[31m"
    graph = helper.make_graph(
        [helper.make_node("Neg", [name], ["y"])], "g", [models.floats(name, [1])], [models.floats("y", [1])]
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "odd.onnx")
    result = lamella("check", "odd.onnx", "--platform", "aws-lambda", "--no-run")
    assert "\x1b" not in result.out + result.err
    assert "`x\\x1b[31m`" in result.err


@pytest.mark.parametrize(("text", "memory_mb"), [("2048", 2048), ("2GB", 2048), ("1769MB", 1769), ("1.5 GiB", 1536)])
def test_memory_is_taken_as_a_size_too(lamella: Lamella, text: str, memory_mb: int) -> None:
    result = lamella("check", "mlp.onnx", "--platform", "aws-lambda", "--no-run", "--json", "--memory", text)
    assert result.json["memory_mb"] == memory_mb


def test_value_and_limit_are_in_the_same_unit(lamella: Lamella) -> None:
    result = lamella("check", "mlp.onnx", "--platform", "aws-lambda", "--batch", "3", "--no-run")
    rows = {line.split("  ")[0]: line for line in result.out.splitlines()}
    assert rows["package, unzipped"].count(" MiB") == 2
    assert rows["time"].count(" s") == 2
    assert rows["request, encoded"].count(" B") == 2
    assert rows["batch"].split() == ["batch", "3", "-", "estimated", "warning"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["mlp.onnx"], "error: `lamella check` needs `--platform`\n"),
        (["mlp.onnx", "--platform", "aws"], "error: there is no platform `aws`\n"),
        (
            ["mlp.onnx", "--platform", "aws-lambda", "--profile", "gold"],
            "error: platform `aws-lambda` has no profile `gold`\n",
        ),
        (
            ["mlp.onnx", "--platform", "aws-lambda", "--memory", "99999"],
            "error: AWS Lambda has no function of 99999 MB\n",
        ),
        (
            ["mlp.onnx", "--platform", "aws-lambda", "--memory", "2 cows"],
            "error: `--memory` takes a whole number of MB or a size, not `2 cows`\n",
        ),
        (
            ["mlp.onnx", "--platform", "aws-lambda", "--architecture", "vax"],
            "error: AWS Lambda has no architecture `vax`\n",
        ),
        (["gone.onnx", "--platform", "aws-lambda"], "error: `gone.onnx` cannot be read: No such file or directory\n"),
        (["folder", "--platform", "aws-lambda"], "error: `folder` is no slices directory: it has no `slices.json`\n"),
    ],
)
def test_wrong_input_is_exit_status_2(lamella: Lamella, folder: Path, arguments: list[str], told: str) -> None:
    (folder / "folder").mkdir()
    result = lamella("check", *arguments)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(told)
    assert "hint: " in result.err


def test_runs_as_a_process_of_its_own(process: Process) -> None:
    environment = {**os.environ, "LAMELLA_PLATFORM": "local", "PIP_NO_INDEX": "1"}
    finished = process("check", "mlp.onnx", env=environment)
    assert finished.returncode == 0, finished.stderr
    assert b"fits local" in finished.stdout


def test_the_command_in_the_hint_slices_for_the_rows_that_were_asked_for(lamella: Lamella, folder: Path) -> None:
    models.mlp(folder / "wide model.onnx", layers=16, width=1024)  # 64 MiB of weights
    arguments = ("--platform", "aws-lambda", "--memory", "128", "--batch", "64", "--no-run")
    hint = lamella("check", "wide model.onnx", *arguments, "--json").json["violations"][0]["hint"]
    assert hint.startswith("send fewer rows at a time, or give it ")
    command = shlex.split(hint.split("`")[1])
    assert command[:3] == ["lamella", "slice", "wide model.onnx"]
    assert lamella(*command[1:], "-o", "wide.slices").status == 0
    assert lamella("check", "wide.slices", *arguments).status == 0
