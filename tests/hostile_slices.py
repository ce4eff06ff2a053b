"""Slices directories and plans that are damaged or hostile, and models that slicing would write over."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from tests.hostile import FOUR, GOOD, built, register
from tests.wire import adding, external, message, model, node, raw, tensor, value


def _sliced(folder: Path) -> tuple[Path, dict[str, object]]:
    """A slices directory, and what its manifest says."""
    import lamella

    weights = b"".join(message(5, tensor(f"w{i}", (512,), payload=raw(bytes(2048)))) for i in range(2))
    chain = message(1, node("Add", ("x", "w0"), ("h",))) + message(1, node("Mul", ("h", "w1"), ("y",)))
    body = message(2, "g") + message(11, value("x", (512,))) + message(12, value("y", (512,))) + weights + chain
    (folder / "model.onnx").write_bytes(model(body))
    lamella.slice(lamella.load(folder / "model.onnx"), folder / "slices", slices=2, verify=False)
    return folder / "slices", json.loads((folder / "slices" / "slices.json").read_text())


Change = Callable[[dict[str, object]], object]


def _manifest(case: str, change: Change) -> None:
    """A case of a `slices.json` that is changed in place, or replaced by what `change` returns."""

    def build(folder: Path) -> list[str]:
        slices, content = _sliced(folder)
        changed = change(content)
        text = changed if isinstance(changed, str) else json.dumps(content)
        (slices / "slices.json").write_text(text)
        return ["run", str(slices), "--random"]

    register(f"slices_{case}", build)


def _set(*path: str | int, to: object) -> Change:
    def change(content: dict[str, object]) -> None:
        inner: object = content
        for key in path[:-1]:
            inner = inner[key]  # type: ignore[index]
        inner[path[-1]] = to  # type: ignore[index]

    return change


_manifest("no_json", lambda _: "hello")
_manifest("a_list", lambda _: "[]")
_manifest("nested_too_deep", lambda _: "[" * 100_000)
_manifest("other_schema", _set("schema", to="lamella.slices/99"))
_manifest("key_missing", lambda content: content.pop("slices") and None)
_manifest("slice_outside", _set("slices", 0, "file", to="../model.onnx"))
_manifest("slice_absolute", _set("slices", 0, "file", to="/etc/passwd"))
_manifest("slice_missing", _set("slices", 0, "file", to="slice_999.onnx"))
_manifest("slice_size", _set("slices", 0, "size", to=1))
_manifest("slice_size_text", _set("slices", 0, "size", to="1"))
_manifest("slice_inputs_number", _set("slices", 0, "inputs", to=[1]))
_manifest("weights_outside", _set("slices", 0, "weights", 0, "file", to="/etc/passwd"))
_manifest("weights_past_the_end", _set("slices", 0, "weights", 0, "offset", to=1 << 40))
_manifest("weights_offset_negative", _set("slices", 0, "weights", 0, "offset", to=-1))
_manifest("bounds_a_list", _set("index_bounds", to=[]))
_manifest("nul", _set("files", 0, "file", to="a\0b"))


@built
def slices_with_a_fifo(folder: Path) -> list[str]:
    slices, _ = _sliced(folder)
    (slices / "slice_000.onnx").unlink()
    os.mkfifo(slices / "slice_000.onnx")
    return ["run", str(slices), "--random"]


@built
def slices_json_a_fifo(folder: Path) -> list[str]:
    os.mkfifo(folder / "slices.json")
    return ["run", str(folder), "--random"]


def _plan(case: str, change: Change) -> None:
    """A case of a `plan.json` that is changed in place, or replaced by what `change` returns."""

    def build(folder: Path) -> list[str]:
        from lamella import load, plan
        from lamella.planner.plan_file import write_plan

        _sliced(folder)
        write_plan(plan(load(folder / "model.onnx"), slices=2), folder / "plan.json")
        content = json.loads((folder / "plan.json").read_text())
        changed = change(content)
        (folder / "plan.json").write_text(changed if isinstance(changed, str) else json.dumps(content))
        return ["slice", str(folder / "plan.json"), "-o", str(folder / "again")]

    register(f"plan_{case}", build)


_plan("no_json", lambda _: "hello")
_plan("nested_too_deep", lambda _: "[" * 100_000)
_plan("other_schema", _set("schema", to="x"))
_plan("node_out_of_range", _set("slices", 0, "node_indices", to=[0, 99]))
_plan("node_negative", _set("slices", 0, "node_indices", to=[-1]))
_plan("node_infinite", _set("slices", 0, "node_indices", to=[float("inf")]))
_plan("node_missing", _set("slices", 0, "node_indices", to=[]))
_plan("no_slices", _set("slices", to=[]))
_plan("index_of_another_slice", _set("slices", 1, "index", to=0))
_plan("node_placed_twice", _set("slices", 1, "node_indices", to=[1, 1]))
_plan("node_twice", _set("slices", 1, "node_indices", to=[1, 1, 0]))
_plan("node_too_early", _set("slices", 0, "node_indices", to=[1]))
_plan("output_unknown", _set("slices", 0, "outputs", to=["nothing"]))
_plan("wrong_digest", _set("structure_sha256", to="0" * 64))
_plan("model_missing", _set("model", to="nowhere.onnx"))
_plan("key_missing", lambda content: content.pop("slices") and None)


@built
def model_called_as_a_slice(folder: Path) -> list[str]:
    (folder / "slice_000.onnx").write_bytes(GOOD)
    return ["slice", str(folder / "slice_000.onnx"), "-o", str(folder)]


@built
def weights_called_as_a_slice(folder: Path) -> list[str]:
    (folder / "slice_000.data").write_bytes(FOUR)
    (folder / "model.onnx").write_bytes(adding(tensor(payload=external({"location": "slice_000.data"}))))
    return ["slice", str(folder / "model.onnx"), "-o", str(folder), "--copy-weights"]
