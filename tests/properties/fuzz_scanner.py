"""A coverage-guided fuzz of the scanner and the reader, to be run by hand: it ends only when it finds something.

    pip install atheris
    python -m tests.properties.fuzz_scanner -max_total_time=300 -rss_limit_mb=1000 CORPUS

What is refused must be refused with an error of Lamella's own; what is read must be what protobuf reads. CORPUS is a
folder that keeps the inputs that reach new code; further flags are libFuzzer's. Half of the mutations know ONNX's
messages (`tests.mutation`), half are libFuzzer's own.
"""

import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lamella.graph"]):
    import lamella.graph.reader  # noqa: F401

from tests.hostile import FOUR
from tests.mutation import SEEDS, mutate
from tests.properties.test_scanner_fuzz import check_agreement, loaded

from lamella.errors import LamellaError

FOLDER = Path(tempfile.mkdtemp())


def change(data: bytes, max_size: int, seed: int) -> bytes:
    """Another input made of `data`."""
    chance = random.Random(seed)
    if chance.random() < 0.1:
        data = chance.choice(SEEDS)
    if chance.random() < 0.5:
        return bytes(atheris.Mutate(data, max_size))
    try:
        return mutate(data, chance, chance.randrange(1, 4))[:max_size]
    except (LamellaError, RecursionError):
        return bytes(atheris.Mutate(data, max_size))


def read(data: bytes) -> None:
    """Read a file of these bytes, and compare with protobuf."""
    model = loaded(FOLDER, data)
    if model is not None:
        check_agreement(model, data)


def main() -> None:
    """Run until something is found."""
    (FOLDER / "w.bin").write_bytes(FOUR)
    atheris.Setup(sys.argv, read, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
