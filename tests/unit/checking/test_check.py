"""Each limit of a platform against real models."""

import os
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tests import models
from tests.unit.checking.conftest import Settings

import lamella
from lamella.checking.compatibility import highest_ir_version, highest_opset
from lamella.checking.measuring import Figures, available_bytes, encoded_bytes, frame_bytes, measure
from lamella.checking.report import Check, Report
from lamella.checking.running import running_checks
from lamella.checking.subject import open_subjects
from lamella.checking.trial import try_out
from lamella.errors import ModelError, UsageError
from lamella.graph import load
from lamella.platforms import Platform
from lamella.platforms.base import MB
from lamella.wire import encode


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    return models.mlp(tmp_path / "mlp.onnx")


def limited(platform: Platform, **limits: Any) -> Platform:
    return replace(platform, limits=replace(platform.limits, **limits))


def of(report: Report, limit: str) -> list[Check]:
    return [check for check in report.checks if check.limit == limit]


def only(report: Report, limit: str) -> Check:
    (check,) = of(report, limit)
    return check


def test_a_small_model_fits_and_every_limit_is_looked_at(mlp: Path) -> None:
    report = lamella.check(mlp, platform="aws-lambda")
    assert report.fits
    assert report.violations == ()
    assert report.minimum_slices == 1
    assert {check.limit for check in report.checks} == {
        *("opset", "ir_version", "package_unzipped_bytes", "package_zip_bytes", "image_bytes"),
        *("temporary_storage_bytes", "memory_max_mb", "timeout_s", "init_timeout_s", "request_bytes"),
        *("response_bytes", "async_request_bytes", "workflow_payload_bytes", "batch"),
    }
    assert all(check.verdict == "ok" for check in report.checks)
    assert all(check.source for check in report.checks)


def test_package_is_closure_structure_and_weights(mlp: Path, aws: Platform) -> None:
    model = load(mlp)
    report = lamella.check(model, platform=aws, run=False)
    taken = report.closure.unzipped_bytes + len(model.structure) + model.weights_bytes
    assert only(report, "package_unzipped_bytes").value == taken
    small = lamella.check(model, platform=limited(aws, package_unzipped_bytes=taken - 1), run=False)
    check = only(small, "package_unzipped_bytes")
    assert not small.fits
    assert (check.verdict, check.value, check.allowed) == ("violated", taken, taken - 1)
    assert check.hint is not None
    assert f"cut the model into at least 2 slices (`lamella slice {mlp} --max-memory" in check.hint
    assert "container-image" in check.hint
    assert small.minimum_slices == 2
    assert only(small, "temporary_storage_bytes").value == len(model.structure) + model.weights_bytes


def test_a_zip_that_is_too_large_to_upload_directly_is_a_warning(mlp: Path, aws: Platform) -> None:
    report = lamella.check(mlp, platform=limited(aws, package_zip_bytes=MB), run=False)
    assert report.fits
    assert only(report, "package_zip_bytes").verdict == "warning"
    assert any("object store" in text for text in report.warnings)


def test_memory_is_measured_and_the_least_size_that_holds_it_is_named(tmp_path: Path, aws: Platform) -> None:
    large = models.mlp(tmp_path / "large.onnx", layers=4, width=2048)  # 64 MiB of weights
    small = lamella.check(models.mlp(tmp_path / "small.onnx"), platform=aws, memory_mb=512)
    report = lamella.check(large, platform=aws, memory_mb=512)
    check, before = only(report, "memory_mb"), only(small, "memory_mb")
    assert (check.origin, check.unit, check.allowed, check.verdict) == ("measured", "MB", 512, "ok")
    assert isinstance(check.value, int)
    assert isinstance(before.value, int)
    assert check.value - before.value > 60
    assert check.detail is not None
    assert check.detail.startswith(f"a function of {check.value:,} MB holds it")


def test_memory_that_is_too_small_says_what_to_give_it_or_how_to_cut(tmp_path: Path, aws: Platform) -> None:
    path = models.mlp(tmp_path / "large.onnx", layers=8, width=2048)  # 128 MiB of weights
    report = lamella.check(path, platform=aws, memory_mb=140)
    check = only(report, "memory_mb")
    assert check.verdict == "violated"
    assert check.hint is not None
    assert check.hint.startswith(f"give it {check.value} MB, or cut the model into at least ")
    assert report.minimum_slices is not None
    assert 2 <= report.minimum_slices <= 8


def test_without_a_run_everything_is_estimated(mlp: Path, aws: Platform) -> None:
    report = lamella.check(mlp, platform=aws, run=False)
    assert only(report, "memory_max_mb").origin == "estimated"
    assert only(report, "batch").verdict == "skipped"
    assert only(report, "response_bytes").value == encoded_bytes(32 * 4)


def test_request_and_response_are_counted_as_they_travel(mlp: Path, aws: Platform) -> None:
    row = np.zeros((7, 32), np.float32)
    report = lamella.check(mlp, platform=aws, batch=7)
    assert only(report, "request_bytes").value == frame_bytes({"x": row})
    assert only(report, "response_bytes").value == frame_bytes({"y": row}, response=True)
    tight = limited(aws, request_bytes=frame_bytes({"x": row}) - 1, async_request_bytes=10)
    found = lamella.check(mlp, platform=tight, batch=7, run=False)
    assert [check.limit for check in found.violations] == ["request_bytes"]
    assert found.violations[0].hint == "send fewer rows at a time, or a reference to an object in the object store"
    assert only(found, "async_request_bytes").verdict == "warning"


def test_hops_are_the_largest_of_all_possible_cuts_and_never_keep_it_from_fitting(mlp: Path, aws: Platform) -> None:
    check = only(
        lamella.check(mlp, platform=limited(aws, workflow_payload_bytes=100), run=False), "workflow_payload_bytes"
    )
    assert (check.value, check.verdict) == (encoded_bytes(32 * 4), "ok")
    assert check.detail == (
        "the largest of 11 possible cuts; the smallest takes 172 bytes; 0 pass within the payload, "
        "the values of the others go through the object store"
    )


def test_payloads_are_as_long_as_what_is_sent() -> None:
    tensors = {"x": np.zeros((7, 32), np.float32), "ids": np.arange(5)}
    assert frame_bytes(tensors) == len(b64encode(encode(tensors).to_bytes()))
    answer = encode(tensors, kind="outputs").to_bytes()
    assert frame_bytes(tensors, response=True) == len(b64encode(answer))


def test_base64_takes_four_bytes_for_every_three_begun() -> None:
    assert [encoded_bytes(size) for size in (0, 1, 3, 4, 6_000_000)] == [0, 4, 4, 8, 8_000_000]


def test_time_above_the_limit_is_a_violation_and_slow_starts_are_a_warning(mlp: Path, aws: Platform) -> None:
    report = lamella.check(mlp, platform=limited(aws, timeout_s=1e-9, init_timeout_s=0.01), memory_mb=1769)
    assert [check.limit for check in report.violations] == ["timeout_s"]
    check = report.violations[0]
    assert check.detail is not None
    assert check.detail.endswith("from a run here, and the initialisation, which runs again")
    assert check.hint is not None
    assert check.hint.startswith("give it more memory")
    start = only(report, "init_timeout_s")
    assert start.verdict == "warning"
    assert float(str(check.value)) >= float(str(start.value)) > 0.1


def test_smaller_functions_are_slower(tmp_path: Path, aws: Platform) -> None:
    path = models.mlp(tmp_path / "wide.onnx", width=1024)
    small, large = (lamella.check(path, platform=aws, memory_mb=size, run=False, batch=512) for size in (256, 3008))
    assert float(str(only(small, "timeout_s").value)) > 5 * float(str(only(large, "timeout_s").value))


def future(folder: Path, *, opset: int = 17, ir_version: int = 8, domain: str = "") -> Path:
    x, y = (models.floats(name, [1]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "future", [x], [y])
    imports = [helper.make_opsetid(name, v) for name, v in {"": 17, domain: opset}.items()]
    path = folder / "future.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=ir_version), path)
    return path


def test_an_opset_that_the_engine_does_not_support_is_a_violation(tmp_path: Path, aws: Platform) -> None:
    highest = highest_opset("")
    assert highest is not None
    report = lamella.check(future(tmp_path, opset=highest + 1), platform=aws)
    check = only(report, "opset")
    assert (check.value, check.allowed, check.verdict) == (highest + 1, highest, "violated")
    assert check.hint == f"export the model for opset {highest}"
    assert [found.limit for found in report.violations] == ["opset"]
    assert only(lamella.check(future(tmp_path, opset=highest), platform=aws), "opset").verdict == "ok"


def test_a_format_that_the_engine_does_not_support_is_a_violation(tmp_path: Path, aws: Platform) -> None:
    highest = highest_ir_version()
    assert highest is not None
    check = only(lamella.check(future(tmp_path, ir_version=highest + 1), platform=aws, run=False), "ir_version")
    assert (check.value, check.allowed, check.verdict) == (highest + 1, highest, "violated")


def test_supported_operator_sets_of_every_domain_are_asked_of_the_engine() -> None:
    assert (highest_opset("") or 0) >= 24
    assert 3 <= (highest_opset("ai.onnx.ml") or 0) < 20
    assert highest_opset("com.microsoft") == 1
    assert highest_opset("nobody.knows.this") is None


def test_a_slices_directory_is_checked_slice_by_slice(tmp_path: Path, aws: Platform) -> None:
    lamella.slice(models.mlp(tmp_path / "mlp.onnx"), tmp_path / "mlp.slices", slices=3)
    report = lamella.check(tmp_path / "mlp.slices", platform=aws)
    assert report.fits
    assert report.minimum_slices == 3
    for limit in ("opset", "package_unzipped_bytes", "memory_max_mb", "timeout_s"):
        assert [check.slice for check in of(report, limit)] == [0, 1, 2]
    assert all(check.origin == "measured" for check in of(report, "memory_max_mb"))
    hops = of(report, "workflow_payload_bytes")
    assert [check.value for check in hops] == [172, 172]
    assert only(report, "response_bytes").origin == "measured"
    tight = lamella.check(tmp_path / "mlp.slices", platform=limited(aws, workflow_payload_bytes=100), run=False)
    assert tight.fits
    assert {check.verdict for check in of(tight, "workflow_payload_bytes")} == {"warning"}


@pytest.mark.parametrize("builder", [models.conditional, models.strings, models.sequence, models.lookup])
def test_every_kind_of_model_gets_a_report(tmp_path: Path, aws: Platform, builder: Any) -> None:
    report = lamella.check(builder(tmp_path / "model.onnx"), platform=aws)
    assert report.fits
    assert only(report, "memory_max_mb").origin == "measured"


def test_a_model_whose_inputs_cannot_be_made_up_is_estimated_and_says_so(tmp_path: Path, aws: Platform) -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, None))
    graph = helper.make_graph(
        [helper.make_node("ConcatFromSequence", ["parts"], ["y"], axis=0)],
        "join",
        [helper.make_value_info("parts", kind)],
        [models.floats("y", ["n"])],
    )
    report = lamella.check(models.save(tmp_path / "join.onnx", graph), platform=aws)
    assert report.fits
    assert only(report, "memory_max_mb").origin == "estimated"
    assert only(report, "request_bytes").verdict == "skipped"
    assert any(text.startswith("nothing was run: input `parts`") for text in report.warnings)


def test_a_wrong_number_is_told_with_what_the_platform_offers(mlp: Path, aws: Platform) -> None:
    with pytest.raises(UsageError, match="AWS Lambda has no function of 20000 MB") as caught:
        lamella.check(mlp, platform=aws, memory_mb=20_000)
    assert caught.value.hint == "it offers memory from 128 to 10240 MB in steps of 1 MB"
    with pytest.raises(UsageError, match="AWS Lambda has no architecture `riscv`") as caught:
        lamella.check(mlp, platform=aws, architecture="riscv")
    assert caught.value.hint == "it offers `x86_64`, `arm64`"
    with pytest.raises(UsageError, match="a batch of 0 rows"):
        lamella.check(mlp, platform=aws, batch=0)
    with pytest.raises(UsageError, match="there is no platform `aws-lambada`"):
        lamella.check(mlp, platform="aws-lambada")
    with pytest.raises(ModelError):
        lamella.check(mlp.with_name("gone.onnx"), platform=aws)


def test_sizes_of_a_platform_with_fixed_ones_are_told(mlp: Path) -> None:
    with pytest.raises(UsageError, match="has no function of 1000 MB") as caught:
        lamella.check(mlp, platform="azure-flex", memory_mb=1000)
    assert caught.value.hint == "it offers memory of 512, 2048, 4096 MB"


def test_a_model_that_the_engine_refuses_is_told_in_its_words(tmp_path: Path, aws: Platform) -> None:
    report = lamella.check(future_operator(tmp_path), platform=aws)
    check = only(report, "engine")
    assert check.verdict == "violated"
    assert check.detail is not None
    assert "Frobnicate" in check.detail
    assert check.hint is not None
    assert "--custom-ops" in check.hint


def future_operator(folder: Path) -> Path:
    x, y = (models.floats(name, [1]) for name in ("x", "y"))
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="nobody.knows.this")
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("nobody.knows.this", 3)]
    path = folder / "custom.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=imports, ir_version=8), path)
    return path


def test_a_trial_that_takes_too_long_is_stopped(mlp: Path) -> None:
    trial = try_out(mlp, [{"x": np.ones((1, 32), np.float32)}], threads=1, time_limit_s=0.01)
    assert trial.error == "it took longer than 0 s"


def test_a_trial_stops_at_the_first_request_that_runs(mlp: Path) -> None:
    wrong, right = np.ones((1, 3), np.float32), np.ones((2, 32), np.float32)
    trial = try_out(mlp, [{"x": wrong}, {"x": right}, {"x": right}], threads=1, time_limit_s=60, until_first=True)
    assert trial.error is None
    assert [run.error is None for run in trial.runs] == [False, True]
    assert trial.runs[1].outputs is not None
    found = trial.runs[1].outputs["y"]
    assert found is not None
    assert found.shape == (2, 32)
    assert len(trial.runs[1].infer_ms) == 5
    assert trial.peak_bytes > trial.floor_bytes > 20 * MB


def test_free_memory_is_read_where_the_system_tells(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal: 100 kB\nMemAvailable:  3 kB\n")
    assert available_bytes(file) == 3072
    assert available_bytes(tmp_path / "gone") is None
    file.write_text("MemTotal: 100 kB\n")
    assert available_bytes(file) is None


def test_a_model_larger_than_free_memory_is_not_run(mlp: Path, aws: Platform, monkeypatch: Any) -> None:
    monkeypatch.setattr("lamella.checking.measuring.available_bytes", lambda: 10 * MB)
    report = lamella.check(mlp, platform=aws)
    assert only(report, "memory_max_mb").origin == "estimated"
    assert any("10 MiB free" in text for text in report.warnings)


def test_a_process_that_was_killed_means_that_memory_ran_out(mlp: Path, setting: Settings) -> None:
    subject = open_subjects(mlp, batch=1, custom_ops=()).parts[0]
    load = measure(open_subjects(mlp, batch=1, custom_ops=()), setting().cost_model, 512, run=False).figures[0].load
    memory, *_ = running_checks(setting(), Figures(subject, load, 50 * MB, False, "signal 9", killed=True), "cut it")
    assert (memory.limit, memory.verdict, memory.hint) == ("memory_max_mb", "violated", "cut it")
    assert memory.detail == "the system killed the process that ran it here"


def test_trials_load_nothing_of_the_planner() -> None:
    program = "import sys, lamella.checking.trial_process as p; print(*sys.modules)"
    surroundings = {**os.environ, "PYTHONPATH": str(Path(lamella.__file__).parents[1])}
    listing = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=surroundings
    ).stdout.split()
    assert "lamella.workflow.pipeline" in listing
    assert not [name for name in listing if name == "onnx" or name.startswith(("lamella.planner", "lamella.slicing"))]


def test_the_platforms_own_runtime_counts_in_what_is_measured(mlp: Path, aws: Platform) -> None:
    heavy = replace(aws, speeds=replace(aws.speeds, floor_mb=1000.0))
    light = replace(aws, speeds=replace(aws.speeds, floor_mb=1.0))
    large, small = (only(lamella.check(mlp, platform=each), "memory_max_mb") for each in (heavy, light))
    assert isinstance(large.value, int)
    assert isinstance(small.value, int)
    assert large.value >= 1000 > small.value
    assert "since the platform's runtime takes more" in (large.detail or "")
    assert "runtime" not in (small.detail or "")


def test_what_a_library_prints_is_no_result(mlp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import os; os.write(1, b'\\xff{')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    trial = try_out(mlp, [{"x": np.ones((1, 32), np.float32)}], threads=1, time_limit_s=60)
    assert trial.error is None
    assert trial.runs[0].outputs is not None


def test_a_process_that_ends_early_left_no_result(mlp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import os; os._exit(0)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    trial = try_out(mlp, [{"x": np.ones((1, 32), np.float32)}], threads=1, time_limit_s=60)
    assert trial.error == "its process left no result that can be read"


def test_many_rows_are_sent_fewer_at_a_time(mlp: Path, aws: Platform) -> None:
    report = lamella.check(mlp, platform=aws, memory_mb=128, batch=1_000_000, run=False)
    hint = only(report, "memory_mb").hint or ""
    assert hint.startswith("send fewer rows at a time, or ")
    assert "lamella slice" not in hint
    assert "activations alone are too large" in hint


def test_a_named_library_has_to_be_built_for_the_engine(tmp_path: Path, setting: Settings) -> None:
    subjects = open_subjects(models.mlp(tmp_path / "mlp.onnx"), batch=1, custom_ops=())
    figures = measure(subjects, setting().cost_model, 128, run=False).figures[0]
    subject = replace(subjects.parts[0], custom_ops=(tmp_path / "ops.so",))
    named = replace(figures, subject=subject, error="undefined symbol")
    (check,) = running_checks(setting(), named, "cut it")
    assert check.hint == "build the library with its operators for this engine"


def test_hops_of_slices_count_the_rows_that_were_asked_for(tmp_path: Path, aws: Platform) -> None:
    lamella.slice(models.mlp(tmp_path / "mlp.onnx"), tmp_path / "mlp.slices", slices=2)
    (hop,) = of(lamella.check(tmp_path / "mlp.slices", platform=aws, batch=8, run=False), "workflow_payload_bytes")
    assert (hop.value, hop.verdict) == (encoded_bytes(8 * 32 * 4), "ok")
    eager = replace(aws, speeds=replace(aws.speeds, inline_bytes=8 * 32 * 4 - 1))
    (hop,) = of(lamella.check(tmp_path / "mlp.slices", platform=eager, batch=8, run=False), "workflow_payload_bytes")
    assert hop.verdict == "warning"
    assert "1,024 of them, raw" in (hop.detail or "")


def test_an_input_that_does_not_travel_is_estimated_and_said_so(tmp_path: Path, aws: Platform) -> None:
    given = helper.make_tensor_value_info("x", onnx.TensorProto.UINT4, [1, 8])
    node = helper.make_node("Cast", ["x"], ["y"], to=onnx.TensorProto.FLOAT)
    graph = helper.make_graph([node], "quarter", [given], [models.floats("y", [1, 8])])
    report = lamella.check(models.save(tmp_path / "quarter.onnx", graph, {"": 21}), platform=aws)
    assert only(report, "memory_max_mb").origin == "estimated"
    assert any(text.startswith("memory is estimated: ") for text in report.warnings)
