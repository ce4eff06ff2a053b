"""The model server under everything at once, for long: are answers right, and do memory and queue stay bounded.

    python benchmarks/soak.py                  # ten minutes
    python benchmarks/soak.py --seconds 60

More callers ask than the queue has places for, and check every answer; others disconnect, send garbage, or send
slowly; the model is replaced and loaded again every second or so, by one with other weights.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import takewhile
from pathlib import Path
from urllib.request import urlopen

from measure import Sample
from probe import status_kib
from results import ROOT, Finding, save, summarised
from soak_clients import Callers, make_model
from tables import print_findings

ASKERS, QUEUE = 48, 32
SAMPLED_EVERY_S = 0.5
GROWTH_AT_MOST_MB = 32.0
END_AT_MOST_S = 5.0


def main() -> None:
    """Run it, and judge."""
    settings = _settings()
    with tempfile.TemporaryDirectory(prefix="lamella-soak-") as folder:
        model = Path(folder) / "soak.onnx"
        make_model(model, 1)
        samples, findings = _soaked(model, settings.seconds, Path(folder) / "said")
    print_findings(findings)
    save(
        settings.output,
        benchmark="soak",
        settings={"seconds": settings.seconds, "askers": ASKERS, "queue": QUEUE},
        digests={},
        groups=[{"name": "soak", "model": "dense", "slices": None, "samples": samples}],
        findings=findings,
    )
    print(f"written: {settings.output}")
    if any(finding["verdict"] == "fail" for finding in findings):
        raise SystemExit(1)


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    return parser.parse_args()


def _soaked(model: Path, seconds: float, said: Path) -> tuple[list[Sample], list[Finding]]:
    """Start the server, let everybody call it, and end it."""
    command = [sys.executable, "-m", "lamella", "serve", str(model), "--port", "0", "--json"]
    with (
        said.open("w") as errors,
        subprocess.Popen(
            [*command, "--max-queue-size", str(QUEUE)], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            url = json.loads("".join((*takewhile(lambda line: line != "}\n", process.stdout), "}")))["url"]
            callers = Callers(url, model)
            samples = asyncio.run(_watched(callers, process.pid, seconds))
            ended_s = _ended(process)
        finally:
            process.kill()
    for line in callers.wrong[:10]:
        print(f"wrong: {line}")
    print(", ".join(f"{name}: {number}" for name, number in sorted(callers.counts.items())))
    return samples, _findings(callers, samples, ended_s, process.returncode, said.read_text())


def _ended(process: subprocess.Popen[str]) -> float:
    began_s = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    return time.monotonic() - began_s


async def _watched(callers: Callers, pid: int, seconds: float) -> list[Sample]:
    """Call for so many seconds, and look at the server meanwhile."""
    stop, samples = asyncio.Event(), list[Sample]()
    calling = asyncio.create_task(callers.run(stop, askers=ASKERS))
    began_s = time.monotonic()
    while (elapsed_s := time.monotonic() - began_s) < seconds and not calling.done():
        waiting = await asyncio.to_thread(_waiting, callers.url)
        facts: dict[str, object] = {
            "resident_mb": status_kib(pid)["VmRSS"] / 1024,
            "files": len(os.listdir(f"/proc/{pid}/fd")),
            "threads": len(os.listdir(f"/proc/{pid}/task")),
            "waiting": waiting,
        }
        samples.append({"label": "server", "round": len(samples), "elapsed_s": elapsed_s, "facts": facts})
        await asyncio.sleep(SAMPLED_EVERY_S)
    stop.set()
    await calling
    return samples


def _waiting(url: str) -> float:
    with urlopen(f"{url}/metrics", timeout=60) as response:
        lines = response.read().decode().splitlines()
    return max((float(line.rpartition(" ")[2]) for line in lines if line.startswith("lamella_waiting_")), default=0.0)


def _findings(callers: Callers, samples: list[Sample], ended_s: float, status: int, said: str) -> list[Finding]:
    """What must hold after any time."""

    def judged(
        text: str, values: list[float], *, at_most: float | None = None, at_least: float | None = None
    ) -> Finding:
        return summarised(text, values, group="soak", model="dense", at_most=at_most, at_least=at_least)

    counts = callers.counts
    return [
        judged("answers that were checked", [counts["status 200"]], at_least=1),
        judged("wrong answers and statuses", [len(callers.wrong)], at_most=0),
        judged("refused, the queue being full", [counts["status 429"]], at_least=1),
        judged("times the model was loaded again", [counts["reloads"]], at_least=2),
        judged("most requests in the queue", [max(_series(samples, "waiting"))], at_most=QUEUE),
        judged(
            "MB that memory grows, second quarter to last", [_growth(samples, "resident_mb")], at_most=GROWTH_AT_MOST_MB
        ),
        judged("open files more, second quarter to last", [_growth(samples, "files")], at_most=16),
        judged("threads more, second quarter to last", [_growth(samples, "threads")], at_most=8),
        judged("MB resident", _series(samples, "resident_mb")),
        judged("seconds to end", [ended_s], at_most=END_AT_MOST_S),
        judged("exit status", [status], at_most=0),
        judged("tracebacks on stderr", [said.count("Traceback")], at_most=0),
    ]


def _series(samples: list[Sample], name: str) -> list[float]:
    return [float(str(sample["facts"][name])) for sample in samples]


def _growth(samples: list[Sample], name: str) -> float:
    """Median of the last quarter less that of the second: in the first, the server still warms up."""
    values = _series(samples, name)
    quarter = max(1, len(values) // 4)
    return statistics.median(values[-quarter:]) - statistics.median(values[quarter : 2 * quarter] or values)


if __name__ == "__main__":
    main()
