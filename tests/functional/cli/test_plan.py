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


def test_a_platform_gives_estimates_and_alternatives(lamella: Lamella) -> None:
    shown = lamella("plan", "mlp.onnx", "--platform", "aws-lambda", "--explain", "--json").json
    assert (shown["platform"], shown["architecture"], shown["objective"]) == ("aws-lambda", "x86_64", "latency")
    assert shown["estimated_ms"] == pytest.approx(sum(part["estimated_ms"] for part in shown["slices"]))
    assert shown["estimated_usd"] > 0
    assert shown["estimated_cold_ms"]["sequential"] >= shown["estimated_ms"]
    assert [other["slices"] for other in shown["alternatives"]] == [1, 2, 3]
    (part,) = shown["explanation"]["slices"]
    terms = ("hop", "transfer", "compute")
    assert sum(part[f"estimated_{term}_ms"] for term in terms) == pytest.approx(shown["estimated_ms"])
    assert shown["explanation"]["errors"] == []  # nothing was measured


def test_a_platform_says_in_words_whether_cutting_pays(lamella: Lamella) -> None:
    result = lamella("plan", "mlp.onnx", "--platform", "aws-lambda", "--explain")
    assert (result.status, result.err) == (0, "")
    assert "One function is best. Two slices would be " in result.out
    assert "AWS Lambda, x86_64" in result.out
    assert "`--profile` does, and shows how far the estimates are off" in result.out


def test_a_profile_is_measured_kept_and_used(lamella: Lamella) -> None:
    first = lamella("plan", "mlp.onnx", "--platform", "local", "--profile", "--explain", "--json")
    assert (first.status, first.err) == (0, "wrote `mlp.profile.json`\n")
    assert Path("mlp.profile.json").exists()
    again = lamella("plan", "mlp.onnx", "--platform", "local", "--explain", "--json")
    assert again.json["profiled"]
    assert again.json["estimated_ms"] == pytest.approx(first.json["estimated_ms"])
    errors = {entry["quantity"]: entry for entry in again.json["explanation"]["errors"]}
    assert errors.keys() == {"inference", "session", "peak memory"}
    assert all(entry["measured"] > 0 for entry in errors.values())


def test_a_profile_of_another_model_is_told_and_left_alone(lamella: Lamella) -> None:
    Path("mlp.profile.json").write_text("{}")
    result = lamella("plan", "mlp.onnx", "--platform", "local", "--json")
    assert result.status == 0
    assert result.err.startswith("warning: `mlp.profile.json`")
    assert not result.json["profiled"]


def test_pareto_prints_and_draws_all_plans(lamella: Lamella) -> None:
    result = lamella("plan", "mlp.onnx", "--platform", "aws-lambda", "--pareto", "--plot", "plans.svg", "--json")
    plans = result.json["plans"]
    assert [plan["estimated_ms"] for plan in plans] == sorted(plan["estimated_ms"] for plan in plans)
    assert Path("plans.svg").read_text().count("<circle") == len(plans) > 1
    table = lamella("plan", "mlp.onnx", "--platform", "aws-lambda", "--pareto").out
    assert len(table.splitlines()) == len(plans) + 1


def test_a_plan_for_a_platform_can_be_sliced_from_its_file_or_at_once(lamella: Lamella) -> None:
    bounds = ("--platform", "aws-lambda", "--slices", "2", "--max-memory", "512MiB")
    assert lamella("plan", "mlp.onnx", *bounds, "-o", "plan.json").status == 0
    stored = lamella("slice", "plan.json", "-o", "a.slices", "--json").json
    direct = lamella("slice", "mlp.onnx", *bounds, "-o", "b.slices", "--json").json
    assert [part["memory_mb"] for part in stored["slices"]] == [part["memory_mb"] for part in direct["slices"]]
    assert stored["slices"][0]["estimated_ms"] == pytest.approx(direct["slices"][0]["estimated_ms"])
    assert stored["verified"]
    assert direct["verified"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--slo-ms", "5"), "`--slo-ms` means something on a platform only"),
        (("--pareto",), "`--pareto` means something on a platform only"),
        (("--platform", "aws-lambda", "--slices", "max"), "exclude each other"),
        (("--platform", "aws-lambda", "--plot", "x.svg"), "`--plot` draws what `--pareto` finds"),
        (("--platform", "aws-lambda", "--pareto", "-o", "x.json"), "`-o` writes one"),
        (("--platform", "aws-lambda", "--input", "x=x.npy"), "`--input` is what `--profile` runs the model on"),
        (("--platform", "aws-lambda", "--dim", "batch"), "`--dim` takes a name and a size"),
        (("--platform", "aws-lambda", "--slo-ms", "0.001"), "above `--slo-ms 0.001`"),
        (("--platform", "aws-lambda", "--max-memory", "100MiB"), "its smallest has 128 MB"),
        (("--platform", "nowhere"), "nowhere"),
    ],
)
def test_a_mistake_about_platforms_tells_the_way_out(
    lamella: Lamella, arguments: tuple[str, ...], message: str
) -> None:
    result = lamella("plan", "mlp.onnx", *arguments)
    assert result.status in (1, 2)
    assert result.err.startswith("error: ")
    assert message in result.err
    assert "\nhint: " in result.err
    assert result.out == ""
