"""Measurements that were made up, with round figures."""

from lamella.bench.results import FunctionUnderTest, Place, Results, Run, Sample, Subject, Verdict

BEGAN_MS = 1_795_306_000_000.0  # 2026-11-22T00:06:40Z
PLACE = Place("eu-central-1", "Linux", "a processor", 4, 16 << 30, "3.11.7", {"lamella": "0.1.0"}, None)


def run(index: int | None, ended_ms: float, duration_ms: float, init_ms: float | None = None, **other: object) -> Run:
    values: dict[str, object] = {
        "billed_ms": duration_ms + (init_ms or 0.0),
        "memory_mb": 1769.0,
        "max_memory_mb": 100.0 + (index or 0),
        "usd": 1e-6 * (duration_ms + (init_ms or 0.0)),
        **other,
    }
    name = "app-dev-door" if index is None else f"app-dev-slice-{index}"
    return Run(index, name, ended_ms, duration_ms, init_ms=init_ms, **values)  # type: ignore[arg-type]


def sample(number: int, *runs: Run, status: str = "success", whole: bool = True) -> Sample:
    began = min(one.began_ms for one in runs)
    return Sample(f"r{number}", began, max(one.ended_ms for one in runs) - began, status, whole, runs)


def made_up() -> Results:
    """Ten requests through two slices, one a second, the first one cold and one failed; a ping; the door."""
    samples = []
    for number in range(10):
        began, init = BEGAN_MS + 1000.0 * number, 400.0 if number == 0 else None
        first = run(0, began + (init or 0.0) + 20, 20.0, init)
        second = run(1, first.ended_ms + 5 + (init or 0.0) + 30 + number, 30.0 + number, init)
        samples.append(sample(number, first, second))
    failed = BEGAN_MS + 10_000
    samples.append(sample(10, run(0, failed + 20, 20.0, status="error"), status="error"))
    samples.append(sample(11, run(0, failed + 1000, 1.0), whole=False))
    samples.append(sample(12, run(None, failed + 2000, 8.0, 120.0, memory_mb=256.0), whole=False))
    functions = tuple(FunctionUnderTest(index, f"app-dev-slice-{index}", 1769, "0" * 64) for index in range(2))
    subject = Subject(
        "app@dev", "app", "app.onnx", 3, "aws", "aws-lambda", "arm64", "onnxruntime 1.31.1", "package", functions
    )
    settings = {"since": "2026-11-22T00:00:00.000Z", "until": "2026-11-22T01:00:00.000Z", "slice": None}
    return Results("metrics", "2026-11-22T01:00:00+00:00", subject, PLACE, settings, tuple(samples), Verdict(True))
