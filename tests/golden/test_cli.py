"""Texts of the command line, word for word: every `--help`, and what is said of mistakes.

After a change that is meant, `LAMELLA_UPDATE_GOLDEN=1 python -m pytest tests/golden` writes them anew; read the diff.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests import models
from tests.measurements import made_up

from lamella.cli import main
from lamella.cli.metrics import show

GOLDEN = Path(__file__).parent / "cli"
UPDATE = bool(os.environ.get("LAMELLA_UPDATE_GOLDEN"))
PLAIN = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "_TYPER_FORCE_DISABLE_TERMINAL": "1"}

MISTAKES = [
    ["bake"],
    ["inspct", "mlp.onnx"],
    ["trigger", "ad", "mlp"],
    ["trigger"],
    ["--verson"],
    ["inspect"],
    ["inspect", "mlp.onnx", "extra"],
    ["inspect", "mlp.onnx", "--jsn"],
    ["inspect", "gone.onnx"],
    ["inspect", "folder"],
    ["inspect", "empty.onnx"],
    ["inspect", "cut.onnx"],
    ["inspect", "page.onnx"],
    ["plan", "mlp.onnx", "--slices"],
    ["plan", "mlp.onnx", "--slices", "many"],
    ["plan", "mlp.onnx", "--slices", "400"],
    ["plan", "mlp.onnx", "--max-memory", "512"],
    ["plan", "mlp.onnx", "--max-memory", "10MB"],
    ["plan", "mlp.onnx", "--max-memory", "1GB", "--slices", "2"],
    ["plan", "mlp.onnx", "-o", "gone/plan.json"],
    ["platforms", "aws-lamda"],
    ["platforms", "aws-lambda", "--profile", "new"],
    ["platforms", "gone.toml"],
    ["slice", "gone.json"],
    ["slice", "broken.json"],
    ["slice", "plan.json", "--slices", "3"],
    ["slice", "mlp.onnx", "-o", "folder"],
    ["slice", "mlp.onnx", "-o", "page.onnx"],
    ["run", "mlp.onnx"],
    ["run", "lookup.onnx", "--input", "ids=x.npy"],
    ["run", "gone.slices", "--random"],
    ["run", "folder", "--random"],
    ["run", "mlp.onnx", "--input", "xs=x.npy"],
    ["run", "mlp.onnx", "--input", "x"],
    ["run", "mlp.onnx", "--input", "x=gone.npy"],
    ["run", "mlp.onnx", "--input", "x=x.png"],
    ["run", "mlp.onnx", "--input", "x=x.npy"],
    ["run", "mlp.onnx", "--input", "x=ints.npy"],
    ["run", "mlp.onnx", "--input", "x=text.json"],
    ["run", "mlp.onnx", "--random", "--repeat", "0"],
    ["run", "mlp.onnx", "--random", "--threads", "two"],
    ["run", "mlp.onnx", "--random", "-o", "out.npy"],
    ["run", "mlp.onnx", "--random", "-o", "gone/out.npz"],
    ["run", "mlp.onnx", "--random", "-o", "-", "--json"],
    ["run", "mlp.onnx", "--random", "--custom-ops", "gone.so"],
    ["run", "mlp.onnx", "--random", "--engine", "tensorflow"],
    ["run", "mlp.onnx", "--random", "--engine", "opencv", "--execution-provider", "cuda"],
    ["run", "mlp.onnx", "--random", "--precision", "bf16"],
    ["run", "mlp.onnx", "--random", "--execution-provider", "kuda"],
    ["run", "mlp.onnx", "--random", "--execution-provider", "cuda:1"],
    ["run", "mlp.onnx", "--random", "--execution-provider", "cuda", "--no-fallback"],
    ["run", "gone.xml", "--random"],
    ["run", "page.xml", "--random", "--engine", "opencv"],
    ["run", "page.xml", "--random"],
    ["verify", "mlp.onnx"],
    ["verify", "mlp.onnx", "mlp.onnx"],
    ["verify", "mlp.onnx", "gone.slices"],
    ["verify", "mlp.onnx", "mlp.slices", "--tolerance", "-1"],
    ["convert", "folder"],
    ["convert", "folder", "-o", "out.pb"],
    ["convert", "gone", "-o", "out.onnx"],
    ["convert", "folder", "-o", "out.onnx", "--opset", "0"],
    ["deploy", "gone.onnx"],
    ["deploy", "mlp.slices", "--name", "My model"],
    ["deploy", "mlp.slices", "--slices", "2"],
    ["deploy", "mlp.slices", "--memory", "lots"],
    ["deploy", "mlp.slices", "--target", "moon"],
    ["package", "gone.onnx", "-o", "out"],
    ["package", "mlp.slices"],
    ["package", "mlp.slices", "-o", "out", "--push", "localhost:5000/mlp"],
    ["package", "mlp.slices", "-o", "out", "--delivery", "image"],
    ["package", "mlp.slices", "-o", "out", "--format", "oci", "--delivery", "package"],
    ["package", "mlp.slices", "-o", "out", "--format", "oci", "--base-image", "Not An Image"],
    ["package", "mlp.slices", "-o", "out", "--format", "oci", "--platform", "gcp-run"],
    ["package", "mlp.slices", "-o", "out", "--format", "rpm"],
    ["package", "mlp.slices", "--format", "oci", "--push", "localhost:5000/"],
    ["deploy", "mlp.slices", "--delivery", "mount", "--dry-run"],
    ["infer", "mlp", "--random"],
    ["infer", "mlp", "--random", "-o", "out.txt"],
    ["infer", "mlp", "--random", "--async", "-o", "out.npz"],
    ["status", "mlp@no-such-stage-"],
    ["status", "mlp"],
    ["logs", "mlp", "--follow", "--json"],
    ["metrics", "mlp"],
    ["metrics", "mlp", "--since", "yesterday"],
    ["metrics", "mlp", "--since", "5m", "--until", "10m"],
    ["metrics", "mlp", "--plot", "chart.gif"],
    ["metrics", "mlp", "--csv", "gone/runs.csv"],
    ["metrics", "mlp", "-o", "-", "--json"],
    ["rollback", "mlp@prod"],
    ["delete", "mlp"],
    ["cache", "prune", "--all", "--older-than", "3"],
    ["export", "mlp.slices", "--format", "pulumi", "-o", "out"],
    ["export", "mlp.slices", "--format", "cdk", "-o", "folder"],
    ["export", "mlp.slices", "--format", "cdk", "-o", "out", "--region", "mars"],
    ["export", "gone.slices", "--format", "cdk", "-o", "out"],
    ["iam-policy", "own"],
    ["iam-policy", "run", "--part", "2"],
]


def check(name: str, text: str) -> None:
    """Compare a text with the golden one, or make it the golden one."""
    path = GOLDEN / name
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


VERBS = ["inspect", "check", "plan", "platforms", "slice", "run", "verify", "convert", "package"]
VERBS += [
    "deploy",
    "infer",
    "status",
    "logs",
    "metrics",
    "serve",
    "rollback",
    "delete",
    "doctor",
    "alias",
    "cache",
    "export",
    "iam-policy",
]
VERBS += ["trigger", "trigger add", "trigger list", "trigger remove"]


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help(verb: str) -> None:
    command = [sys.executable, "-m", "lamella", *verb.split(), "--help"]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LAMELLA_")}
    result = subprocess.run(command, capture_output=True, check=True, env={**kept, **PLAIN})
    lines = [line.rstrip() for line in result.stdout.decode().strip("\n").splitlines()]
    check(f"{'-'.join(['help', *verb.split()])}.txt", "\n".join(lines) + "\n")


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [*os.environ]:
        if name.startswith("LAMELLA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    make_files(tmp_path)
    told = []
    for arguments in MISTAKES:
        capsys.readouterr()
        status = main(arguments)
        shown = capsys.readouterr()
        assert shown.out == "", arguments
        told.append(f"$ lamella {' '.join(arguments)}\n{shown.err}exit status {status}\n")
    check("mistakes.txt", "\n".join(told))


def test_metrics(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PLAIN.items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    show(made_up())
    check("metrics.txt", capsys.readouterr().out)


def make_files(folder: Path) -> None:
    model = models.mlp(folder / "mlp.onnx")
    models.lookup(folder / "lookup.onnx")
    main(["plan", "mlp.onnx", "--slices", "2", "-o", "plan.json"])
    main(["slice", "plan.json", "-o", "mlp.slices"])
    (folder / "folder").mkdir()
    (folder / "folder" / "notes.txt").touch()
    (folder / "empty.onnx").touch()
    (folder / "cut.onnx").write_bytes(model.read_bytes()[:-1000])
    (folder / "page.onnx").write_text("<html>")
    (folder / "page.xml").write_text("<html>")
    (folder / "broken.json").write_text("{")
    (folder / "text.json").write_text('["a"]')
    np.save(folder / "x.npy", np.ones((1, 3), np.float32))
    np.save(folder / "ints.npy", np.ones((1, 32), np.int32))
