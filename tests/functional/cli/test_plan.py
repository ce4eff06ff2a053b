"""`lamella plan`."""

import json
from pathlib import Path

import pytest
from tests.functional.cli.conftest import Lamella

SLICE_KEYS = {"index", "inputs", "outputs", "nodes", "weights_bytes", "memory_mb", "estimated_ms", "estimated_usd"}


def test_json_has_the_keys_of_the_contract(lamella: Lamella) -> None:
    result = lamella("plan", "mlp.onnx", "--slices", "3", "--json")
    assert (result.status, result.err) == (0, "")
    shown = result.json
    assert shown["schema"] == "lamella.plan/1"
    assert {"crossing_bytes", "estimated_ms", "estimated_usd"} <= shown.keys()
    assert [part["index"] for part in shown["slices"]] == [0, 1, 2]
    assert all(part.keys() >= SLICE_KEYS for part in shown["slices"])
    assert sum(part["nodes"] for part in shown["slices"]) == 12
    assert shown["slices"][0]["inputs"] == ["x"]
    assert shown["slices"][-1]["outputs"] == ["y"]
    assert shown["crossing_bytes"] == [128, 128]
    assert shown["estimated_ms"] is shown["slices"][0]["estimated_usd"] is None


def test_table_shows_each_slice_and_a_summary(lamella: Lamella) -> None:
    result = lamella("plan", "mlp.onnx", "--slices", "2")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].split() == ["slice", "nodes", "weights", "memory", "inputs", "outputs", "crossing"]
    assert [line.split()[0] for line in lines[1:3]] == ["0", "1"]
    assert lines[-1].startswith("2 slices, the largest takes ")
    assert lines[-1].endswith("128 B cross the cuts")


def test_max_cuts_wherever_that_is_legal(lamella: Lamella) -> None:
    assert len(lamella("plan", "mlp.onnx", "--slices", "max", "--json").json["slices"]) == 12


def test_max_memory_that_fits_answers_one_slice(lamella: Lamella) -> None:
    assert lamella("plan", "mlp.onnx", "--max-memory", "1GiB").out.splitlines()[-1].startswith("1 slice, ")


def test_max_memory_limits_every_slice(lamella: Lamella) -> None:
    floor = 96 << 20
    shown = lamella("plan", "mlp.onnx", "--max-memory", f"{floor + 9000}B", "--json").json
    assert len(shown["slices"]) > 1
    assert all(part["weights_bytes"] + part["activations_bytes"] <= 9000 for part in shown["slices"])


def test_written_plan_and_its_json_can_both_be_sliced(lamella: Lamella) -> None:
    written = lamella("plan", "mlp.onnx", "--slices", "3", "-o", "plan.json")
    assert written.status == 0
    assert written.err == "wrote `plan.json`\n"
    Path("printed.json").write_text(lamella("plan", "mlp.onnx", "--slices", "3", "-o", "-").out)
    assert json.loads(Path("plan.json").read_text())["schema"] == "lamella.plan/1"
    for file in ("plan.json", "printed.json"):
        result = lamella("slice", file, "-o", f"{file}.slices", "--json")
        assert result.status == 0
        planned = json.loads(Path(file).read_text())["slices"]
        assert [part["nodes"] for part in result.json["slices"]] == [part["nodes"] for part in planned]
        assert len(planned) == 3


def test_environment_sets_what_no_flag_does(lamella: Lamella, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMELLA_SLICES", "2")
    assert len(lamella("plan", "mlp.onnx", "--json").json["slices"]) == 2
    assert len(lamella("plan", "mlp.onnx", "--slices", "4", "--json").json["slices"]) == 4
