"""Bad input of every kind: exit status 2, one line that says what and where, a hint, and no time or memory lost."""

import gc
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import hostile_slices  # noqa: F401
from tests.hostile import CASES, FOUR, GOOD
from tests.wire import adding, external, graph, message, model, node, number, raw, tag, tensor, value

from lamella.cli import main

GOLDEN = Path(__file__).parent.parent / "golden" / "hostile.txt"
MOST_BYTES, MOST_SECONDS = 64 << 20, 4.0


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    """Imports are not what is measured."""
    import onnxruntime  # noqa: F401

    import lamella.cli.app
    import lamella.slicing
    import lamella.workflow.pipeline  # noqa: F401


@pytest.fixture
def bounded() -> Iterator[None]:
    """Fails the test if it takes more processor time or memory than any of these files deserves."""
    gc.collect()
    gc.freeze()  # else all that other tests have left is looked through again and again
    tracemalloc.start()
    started = time.thread_time()  # of no thread that another test has left
    yield
    seconds = time.thread_time() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gc.unfreeze()
    assert seconds < MOST_SECONDS
    assert peak < MOST_BYTES


def golden() -> dict[str, list[str]]:
    """The error and the hint of each case."""
    found = {}
    for block in GOLDEN.read_text().split("\n\n") if GOLDEN.exists() else []:
        name, *lines = block.strip().split("\n")
        found[name] = lines
    return found


def said(folder: Path, stderr: str) -> list[str]:
    """The lines of stderr, with the folder taken out."""
    return stderr.replace(str(folder), "DIR").splitlines()


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_error_and_one_hint(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    arguments = CASES[case](tmp_path)
    request.getfixturevalue("bounded")
    status = main(arguments)
    out, err = capsys.readouterr()
    lines = said(tmp_path, err)
    assert status == 2, err
    assert out == ""
    assert [line.split(" ")[0] for line in lines] == ["error:", "hint:"]
    assert all(line.isprintable() and len(line) < 700 for line in lines)
    if os.environ.get("LAMELLA_UPDATE_GOLDEN"):
        texts = golden() | {case: lines}
        blocks = ["\n".join([name, *texts[name]]) for name in CASES if name in texts]
        GOLDEN.write_text("\n\n".join(blocks) + "\n")
    assert lines == golden()[case]


def test_golden_texts_are_those_of_the_cases() -> None:
    assert list(golden()) == list(CASES)


@pytest.mark.parametrize(
    "case", ["empty", "subgraphs_10000_deep", "external_absolute", "two_gigabytes_claimed", "fifo"]
)
def test_the_command_shows_no_traceback(case: str, tmp_path: Path) -> None:
    arguments = CASES[case](tmp_path)
    ended = subprocess.run(
        [sys.executable, "-m", "lamella", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert said(tmp_path, ended.stderr) == golden()[case]


def test_nothing_is_written_or_removed_for_a_model_that_would_be_written_over(tmp_path: Path) -> None:
    for case in ("model_called_as_a_slice", "weights_called_as_a_slice"):
        folder = tmp_path / case
        folder.mkdir()
        arguments = CASES[case](folder)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert main(arguments) == 2
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


MANY = 20_000


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(
    "data",
    [
        model(graph(b"".join(message(1, node("Relu", ("x",), (f"v{i}",))) for i in range(MANY)), output="v0")),
        model(graph(message(1, node("Foo", ("x",), ("y",), message(1, "a") + (tag(7, 5) + FOUR[:4]) * 2_000_000)))),
        model(graph(message(1, node("Foo", ("x",), ("y",), message(1, "a") + number(8, 1) * 1_000_000)))),
        adding(tensor(payload=raw(FOUR)) + number(99, 0) * MANY),
        adding(tensor(payload=raw(FOUR)) + b"".join(number(99, 0) + number(2, 1) for _ in range(MANY))),
        adding(tensor(dims=(MANY,), payload=(tag(4, 5) + FOUR[:4]) * MANY)),
        adding(tensor(dims=(MANY,), datatype=8, payload=message(6, "s") * MANY)),
        GOOD + message(2, "producer " * 100) * (MANY // 10),
        GOOD + b"".join(message(14, message(1, f"k{i}"), message(2, "v")) for i in range(MANY // 20)),
        adding(tensor(payload=raw(FOUR)), b"".join(message(13, value(f"v{i}")) for i in range(MANY))),
        adding(tensor(payload=raw(FOUR)), message(16, b"x" * 8_000_000)),
    ],
    ids=[
        "nodes",
        "floats",
        "integers",
        "unknown-fields",
        "alternating-fields",
        "unpacked-payload",
        "strings",
        "producers",
        "metadata",
        "values",
        "unknown-text",
    ],
)
def test_many_small_things_take_time_and_memory_in_proportion(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    assert main(["inspect", str(tmp_path / "model.onnx")]) == 0, capsys.readouterr().err


def test_names_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b[31m[link=x]\u202e\n"
    data = model(graph(message(1, node("Relu", ("x",), (name,))), output=name), message(2, "\x1b]0;title\x07"))
    (tmp_path / "model.onnx").write_bytes(data)
    assert main(["inspect", str(tmp_path / "model.onnx")]) == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


def test_weights_are_found_however_the_hugging_face_cache_links_them(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for name, data in (("model.onnx", adding(tensor(payload=external({"location": "w.bin"})))), ("w.bin", FOUR)):
        (tmp_path / "blobs" / f"hash-of-{name}").write_bytes(data)
        (tmp_path / "snapshot" / name).symlink_to(f"../blobs/hash-of-{name}")
    assert main(["inspect", str(tmp_path / "snapshot" / "model.onnx")]) == 0


@pytest.mark.parametrize(
    "text",
    [
        b"j\x14\n\x08location\x12\x05",
        b"j\x12\n\x08location\x12\x06secretj\x0b\n\x06offset\x12\x010j\x0c\n\x06length\x12\x0216p\x01",
        b"j\x12\n\x08location\x12\x06../../j\x0b\n\x06offset\x12\x010j\x0c\n\x06length\x12\x0216p\x01",
        b"j\x16\n\x08location\x12\x0amodel.onnxj\x0b\n\x06offset\x12\x030x0j\x0c\n\x06length\x12\x0216p\x01",
        b"j\x16\n\x08location\x12\x0amodel.onnxj\x0b\n\x06offset\x12\x019j\x0c\n\x06length\x12\x089999999p\x01",
    ],
)
@pytest.mark.parametrize("name", ["model.onnx", "mo\ndel.onnx"])
def test_text_that_looks_like_a_reference_is_only_text(text: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(FOUR)
    large = message(5, tensor(dims=(500,), payload=raw(bytes(2000))))
    shapes = message(11, value("x", (500,))) + message(12, value("y", (500,)))
    documented = node("Add", ("x", "w"), ("h",)) + message(6, text)
    body = message(2, "g") + message(1, documented) + message(1, node("Relu", ("h",), ("y",))) + large + shapes
    (tmp_path / name).write_bytes(model(body))
    assert main(["slice", str(tmp_path / name), "--slices", "2", "-o", str(tmp_path / "slices")]) == 0
    assert not (tmp_path / "slices" / "secret").exists()
