import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import models
import networks
from comparison import BEST, contest, contest_from, contests_table
from planning import documented, sparse
from tables import BEGIN, END
from tests.models import mlp

import lamella
from lamella.engines.base import EngineOptions
from lamella.engines.onnxruntime import OnnxRuntimeEngine


def test_best_plan_is_never_worse_than_a_baseline(tmp_path: Path) -> None:
    found = contest("mlp", mlp(tmp_path / "mlp.onnx", layers=6, width=64), "aws-lambda", (2, 3))
    rivals = [one for one in found if one.way != BEST]
    assert {one.way for one in rivals} == {"equal nodes", "equal weights", "greedy by size"}
    assert all(one.ratio is not None and one.ratio <= 1 + 1e-9 for one in rivals)
    assert any(one.ratio is not None and one.ratio < 1 for one in rivals)


def test_plans_come_back_from_a_results_file(tmp_path: Path) -> None:
    found = contest("mlp", mlp(tmp_path / "mlp.onnx"), "aws-lambda", (4,))
    samples = [{"facts": vars(one)} for one in found]
    page = documented(f"{BEGIN}{END}", {"groups": [{"name": "baselines", "samples": samples}], "findings": []})
    assert contest_from(vars(found[0])) == found[0]
    assert contests_table([one for one in found if one.objective == "cost"]) in page


def test_weights_of_a_sparse_model_take_no_room(tmp_path: Path) -> None:
    path = sparse(networks.residual_chain(130, width=1024), tmp_path / "sparse")
    data = path.with_name(path.name + ".data")
    assert data.stat().st_size > 100e6
    assert data.stat().st_blocks * 512 < 1e6
    model = lamella.load(path)
    assert len(model.graph.nodes) == 130
    assert model.weights_bytes <= data.stat().st_size


@pytest.mark.parametrize("name", ["squeezenet", "mobilenet-v1", "resnet18", "minilm"])
def test_model_is_valid_and_its_output_not_trivial(name: str, tmp_path: Path) -> None:
    made = models.make(name, tmp_path)
    onnx.checker.check_model(str(made.path), full_check=True)
    session = OnnxRuntimeEngine().load(made.path, EngineOptions())
    first = np.asarray(OnnxRuntimeEngine().to_array(next(iter(session.infer(models.inputs(name)).values()))))
    assert np.isfinite(first).all()
    assert first.std() > 0.01
