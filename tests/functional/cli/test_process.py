"""What only a process of its own can show: streams, signals, tracebacks, the environment."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests import models
from tests.functional.cli.conftest import Process

import lamella
from lamella import cli


def test_version(process: Process) -> None:
    result = process("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"lamella {lamella.__version__}\n".encode(), b"")


def test_no_arguments_show_the_help(process: Process) -> None:
    result = process()
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"Usage: lamella" in result.stdout


def test_data_goes_to_stdout_and_messages_to_stderr(process: Process) -> None:
    result = process("plan", "mlp.onnx", "-o", "plan.json")
    assert result.returncode == 0
    assert result.stdout.startswith(b"slice")
    assert result.stderr == b"wrote `plan.json`\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "gone.onnx"],
        ["inspect", "text.onnx"],
        ["inspect", "."],
        ["slice", "mlp.onnx", "--slices", "nine"],
        ["slice", "mlp.onnx", "--slices", "3", "-o", "text.onnx"],
        ["run", "mlp.onnx"],
        ["verify", "mlp.onnx"],
        ["convert", "mlp.onnx", "-o", "out.onnx"],
        ["plan", "mlp.onnx", "-o", "gone/plan.json"],
        ["bake", "mlp.onnx"],
    ],
)
def test_mistake_is_two_lines_exit_status_2_and_no_traceback(
    process: Process, folder: Path, arguments: list[str]
) -> None:
    (folder / "text.onnx").write_text("<html>")
    result = process(*arguments)
    assert (result.returncode, result.stdout) == (2, b"")
    lines = result.stderr.decode().splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["error:", "hint:"]
    assert not any(line.endswith(".") for line in lines)


def test_debug_shows_the_traceback(process: Process) -> None:
    result = process("inspect", "gone.onnx", env={**os.environ, "LAMELLA_DEBUG": "1"})
    assert result.returncode == 1
    assert b"Traceback" in result.stderr
    assert b"ModelError" in result.stderr


@pytest.mark.usefixtures("folder")
def test_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from lamella.graph import reader

    def broken(_: object) -> None:
        raise KeyError("defect")

    monkeypatch.setattr(reader, "load", broken)
    with pytest.raises(KeyError, match="defect"):
        cli.main(["inspect", "mlp.onnx"])


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("arguments", [["inspect", "mlp.onnx"], ["--help"], ["slice", "--help"]])
def test_closed_pipe_is_quiet(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "lamella", *arguments]
    with os.fdopen(write, "wb") as stdout:
        result = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (141, b"")


@pytest.mark.usefixtures("folder")
def test_full_disk_is_an_error_and_no_usage_error() -> None:
    command = [sys.executable, "-m", "lamella", "inspect", "mlp.onnx"]
    with Path("/dev/full").open("wb") as stdout:
        result = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=60)
    assert result.returncode == 1
    assert b"error: no space left on device" in result.stderr
    assert b"Traceback" not in result.stderr


def test_interrupt_is_exit_status_130(folder: Path) -> None:
    os.mkfifo(folder / "wait.json")  # reading a plan from it waits for a writer that never comes
    command = [sys.executable, "-m", "lamella", "slice", "wait.json"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        for _ in range(100):
            time.sleep(0.1)
            if _blocked_in_open(running.pid):
                break
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
    assert (running.returncode, errors) == (130, b"interrupted\n")


def test_interrupt_while_the_command_line_is_imported_is_no_traceback(process: Process, folder: Path) -> None:
    (folder / "typer.py").write_text("raise KeyboardInterrupt")
    paths = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
    result = process("--version", env={**os.environ, "PYTHONPATH": paths})
    assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"interrupted\n")


def _blocked_in_open(pid: int) -> bool:
    return Path(f"/proc/{pid}/wchan").read_text() in ("wait_for_partner", "fifo_open")


def test_terminal_gets_colour_and_folds_at_its_width(folder: Path) -> None:
    shown = on_terminal(["inspect", "gone.onnx"], {"COLUMNS": "60"}, folder)
    assert "\x1b[1;31merror:\x1b[0m" in shown
    assert "\x1b[" not in on_terminal(["inspect", "gone.onnx"], {"NO_COLOR": "1", "TERM": "dumb"}, folder)
    assert "\x1b[38" not in on_terminal(["inspect", "mlp.onnx"], {"NO_COLOR": "1"}, folder)


def on_terminal(arguments: list[str], environment: dict[str, str], folder: Path) -> str:
    """What a terminal gets from stdout and stderr together."""
    leader, follower = pty.openpty()
    settings = {**os.environ, "TERM": "xterm-256color", **environment}
    command = [sys.executable, "-m", "lamella", *arguments]
    subprocess.run(
        command, stdin=follower, stdout=follower, stderr=follower, env=settings, cwd=folder, check=False, timeout=60
    )
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 65536):
            shown += part
    except OSError:
        pass  # Linux says EIO at the end of a terminal
    finally:
        os.close(leader)
    return shown.decode()


def test_binary_data_is_not_written_to_a_terminal(folder: Path) -> None:
    shown = on_terminal(["run", "mlp.onnx", "--random", "-o", "-"], {}, folder)
    assert "binary data is not written to a terminal" in shown


def test_names_that_the_encoding_lacks_are_printed_as_escapes(process: Process, folder: Path) -> None:
    models.mlp(folder / "größe.onnx")
    result = process("inspect", "größe.onnx", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stderr) == (0, b"")
    assert rb"gr\xf6\xdfe.onnx" in result.stdout


def test_command_line_alone_imports_nothing_heavy() -> None:
    code = "import sys, lamella.cli; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"http.client", "ssl", "xml.sax"}.isdisjoint(result.stdout.split())
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert loaded.isdisjoint({"numpy", "onnx", "onnx_ir", "onnxruntime", "ml_dtypes", "rich", "torch"})


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, lamella.cli; lamella.cli.main(['run', '--help']); print('modules:', *sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in result.stdout.rpartition("modules:")[2].split()}
    assert "typer" in loaded
    assert loaded.isdisjoint({"numpy", "onnx", "onnx_ir", "onnxruntime", "ml_dtypes", "torch"})
