"""`lamella slice`."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests import models
from tests.functional.cli.conftest import Lamella, Process
from tests.functional.cli.test_plan import SLICE_KEYS

from lamella.slicing import write

KEYS = {"verified", "max_abs_diff", "max_rel_diff", "seconds", "peak_rss_bytes", "random_outputs", "placements"}


def test_json_has_the_keys_of_the_contract(lamella: Lamella) -> None:
    result = lamella("slice", "mlp.onnx", "--slices", "3", "-o", "out", "--json")
    assert (result.status, result.err) == (0, "")
    shown = result.json
    assert shown["schema"] == "lamella.slice/1"
    assert shown.keys() >= KEYS
    assert shown["verified"] is True
    assert shown["max_abs_diff"] == shown["max_rel_diff"] == 0
    assert shown["seconds"] > 0
    assert shown["peak_rss_bytes"] > 10 << 20
    assert shown["placements"] == [{"file": "mlp.onnx", "method": "hard-link", "reason": None}]
    for part in shown["slices"]:
        assert part.keys() >= SLICE_KEYS
        assert hashlib.sha256((Path("out") / part["file"]).read_bytes()).hexdigest() == part["sha256"]


@pytest.mark.parametrize(
    "builder", [models.mlp, models.residual_conv, models.conditional, models.strings, models.lookup]
)
def test_each_kind_of_model_is_sliced_and_verified(
    lamella: Lamella, folder: Path, builder: Callable[[Path], Path]
) -> None:
    builder(folder / "model.onnx")
    result = lamella("slice", "model.onnx", "--slices", "max")
    assert (result.status, result.err) == (0, "")
    assert "verified     equal to the whole model, with no difference" in result.out.splitlines()
    assert (folder / "model.slices" / "slices.json").is_file()


def test_no_verify_says_so(lamella: Lamella) -> None:
    shown = lamella("slice", "mlp.onnx", "--slices", "2", "--no-verify", "--json").json
    assert (shown["verified"], shown["max_abs_diff"], shown["directory"]) == (False, None, "mlp.slices")


def test_copied_weights_are_no_surprise_and_need_no_warning(lamella: Lamella) -> None:
    result = lamella("slice", "mlp.onnx", "--slices", "2", "--copy-weights", "-o", "out", "--json")
    assert (result.status, result.err) == (0, "")
    assert {placement["method"] for placement in result.json["placements"]} == {"copy"}


def test_weights_that_had_to_be_copied_are_reported_on_stderr(
    lamella: Lamella, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    result = lamella("slice", "mlp.onnx", "--slices", "2", "-o", "out", "--json")
    assert result.status == 0
    reason = "no hard link possible: Invalid cross-device link"
    assert result.err == f"warning: the weights in `mlp.onnx` were copied: {reason}\n"
    assert result.json["placements"] == [{"file": "mlp.onnx", "method": "copy", "reason": reason}]


def test_optimised_first_is_verified_too(lamella: Lamella, folder: Path) -> None:
    models.residual_conv(folder / "conv.onnx")
    result = lamella("slice", "conv.onnx", "--slices", "2", "--optimize-first", "--json")
    assert result.status == 0, result.err
    assert result.json["optimized"] is True
    assert result.json["verified"] is True


def test_given_inputs_are_verified_with(lamella: Lamella) -> None:
    np.save("x.npy", np.ones((3, 32), np.float32))
    assert lamella("slice", "mlp.onnx", "--slices", "2", "--input", "x=x.npy").status == 0
    np.save("x.npy", np.ones((3, 31), np.float32))
    result = lamella("slice", "mlp.onnx", "--slices", "2", "--input", "x=x.npy")
    assert result.status in (1, 2)
    assert "input `x` has shape [3, 31]" in result.err


def test_json_is_printed_also_of_slices_that_differ(lamella: Lamella, monkeypatch: pytest.MonkeyPatch) -> None:
    assemble = write.assemble
    monkeypatch.setattr(write, "assemble", lambda *given: assemble(*given).replace(b"Relu", b"Tanh"))
    result = lamella("slice", "mlp.onnx", "--slices", "2", "--json")
    assert (result.status, result.err.splitlines()[0][:18]) == (1, "error: output `y` ")
    assert (result.json["schema"], result.json["verified"]) == ("lamella.slice/1", False)
    assert result.json["max_abs_diff"] > 0
    assert len(result.json["slices"]) == 2


def test_json_is_printed_also_of_slices_that_cannot_be_compared(lamella: Lamella) -> None:
    np.save("x.npy", np.ones((3, 31), np.float32))
    result = lamella("slice", "mlp.onnx", "--slices", "2", "--input", "x=x.npy", "--json")
    assert (result.status, result.json["verified"], result.json["max_abs_diff"]) == (1, False, None)


def test_plan_comes_from_stdin(process: Process) -> None:
    planned = process("plan", "mlp.onnx", "--slices", "2", "-o", "-")
    result = process("slice", "-", "--json", input=planned.stdout)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(b'"file": "slice_') == 2
