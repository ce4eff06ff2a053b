import struct
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.measurements import BEGAN_MS, made_up, run, sample

from lamella.bench.charts import write_chart
from lamella.bench.results import Results
from lamella.errors import UsageError

BEGINNINGS = {"png": b"\x89PNG\r\n", "svg": b"<?xml", "pdf": b"%PDF-"}


def many(slices: int) -> Results:
    samples = [sample(n, *(run(k, BEGAN_MS + 1000 * n + k, 1.0 + k) for k in range(slices))) for n in range(61)]
    return replace(made_up(), samples=tuple(samples))


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_the_suffix_says_what_is_drawn(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"chart.{kind}"
    write_chart(made_up(), path)
    assert path.read_bytes().startswith(BEGINNINGS[kind])
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_is_large_enough_to_read(tmp_path: Path) -> None:
    write_chart(made_up(), tmp_path / "chart.PNG")
    width, height = struct.unpack(">II", (tmp_path / "chart.PNG").read_bytes()[16:24])
    assert (width >= 1500, height >= 1500) == (True, True)


def test_the_same_results_give_the_same_drawing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_chart(made_up(), tmp_path / f"{name}.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_axes_have_names_and_units_and_what_is_cut_is_said(tmp_path: Path) -> None:
    write_chart(made_up(), tmp_path / "chart.svg")
    texts = {"".join(one.itertext()) for one in ET.parse(tmp_path / "chart.svg").iter() if one.tag.endswith("}text")}
    assert {"latency, ms", "billed duration, ms", "duration, ms", "most memory, MB", "time, UTC", "slice 1"} <= texts
    assert "app@dev: app.onnx, 11 requests on aws (eu-central-1)" in texts
    assert {"p50: 60 ms", "p90: 143 ms", "warm (9)", "cold (1)"} <= texts
    assert "850 ↑" in texts  # the cold one


@pytest.mark.parametrize("slices", [1, 12, 25])
def test_every_run_is_drawn_however_many_slices_there_are(slices: int, tmp_path: Path) -> None:
    write_chart(many(slices), tmp_path / "chart.svg")
    uses = [one for one in ET.parse(tmp_path / "chart.svg").iter() if one.tag.endswith("}use")]
    assert len(uses) >= 2 * 61 * slices  # durations, memory


def test_cold_starts_alone_can_be_drawn(tmp_path: Path) -> None:
    cold = sample(0, run(0, BEGAN_MS, 5.0, 300.0))
    write_chart(replace(made_up(), samples=(cold,)), tmp_path / "chart.svg")
    assert (tmp_path / "chart.svg").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["chart.gif", "chart", "png"])
def test_other_formats_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no name for a chart"):
        write_chart(made_up(), tmp_path / name)


def test_nothing_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to draw"):
        write_chart(replace(made_up(), samples=()), tmp_path / "chart.png")
