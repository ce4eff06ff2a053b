"""Weights from an object store, straight into the memory that the engine reads: they are in no file at any time.

Engines insist that the files which a model refers to exist. Sparse ones of the right length, which take no space, do.
Only tensors that no engine takes from memory are written to them: those inside nodes (constants in branches, in loops
and in functions, usually some kilobytes), and those with elements of less than a byte.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from lamella.engines.base import Initializer
from lamella.errors import StoreError
from lamella.runtime.function import FunctionConfig, ObjectFile, WeightTensor
from lamella.stores.base import Store
from lamella.stores.opening import open_store, split_uri
from lamella.stores.reading import Wanted, read_objects
from lamella.tensors import datatype

WEIGHTS_VARIABLE = "LAMELLA_WEIGHTS"
"""If it is set, where weights are, each called by its digest, whatever the package says: `s3://bucket/weights`."""


@dataclass(frozen=True, slots=True)
class FetchedWeights:
    """Weights in memory.

    Attributes:
        initializers: By name, what an engine loads the slice with.
        folder: The files that the slice refers to, which stand in for the real ones.
    """

    initializers: Mapping[str, Initializer]
    folder: Path


@contextmanager
def fetch_weights(function: FunctionConfig) -> Iterator[FetchedWeights]:
    """Fetch the weights of a function with delivery by `object-store`. The files are gone at the end.

    Takes as much memory as the objects are large, and keeps it as long as one of `initializers` is in use.

    Fetching in a thread while the engine is imported was tried, when functions had boto3. The engine takes 45 ms, which
    is all that there is to win; importing boto3, which holds the interpreter as well, took 350 ms: 50 MB at 78 MB/s
    were there no sooner (1.01 of the time, on one core 1.06).

    Raises:
        StoreError: An object is missing, unreachable, or not what its digest says.
    """
    buffers = {entry.file: _memory(entry.size) for entry in function.objects}
    opened = cache(open_store)
    read_objects([_wanted(entry, buffers[entry.file], opened) for entry in function.objects])
    initializers = {w.name: _initializer(w, buffers[w.file]) for w in function.weights if w.name and _is_taken(w)}
    with TemporaryDirectory(prefix="lamella-") as folder:
        for entry in function.objects:
            written = [w for w in function.weights if w.file == entry.file and not _is_taken(w)]
            try:
                _stand_in(Path(folder) / entry.file, buffers[entry.file], written)
            except OSError as error:
                raise StoreError(
                    f"weights of `{entry.file}` cannot be written to temporary storage: {error.strerror or error}",
                    hint=f"give the function {sum(w.length for w in written):,} bytes of temporary storage, or deliver "
                    "the model in its package",
                ) from error
        yield FetchedWeights(initializers, Path(folder))


def _memory(size: int) -> memoryview:
    """Memory that begins on a page, so that weights keep the alignment that they have in their file.

    Huge pages (`MADV_HUGEPAGE`) were tried: a third faster, but for the times when the kernel had to compact memory
    first, which took a second.
    """
    return memoryview(mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))[:size]


def _wanted(entry: ObjectFile, buffer: memoryview, opened: Callable[[str], Store]) -> Wanted:
    uri, moved = entry.uri, os.environ.get(WEIGHTS_VARIABLE)
    if moved and entry.sha256:
        uri = f"{moved}/{entry.sha256}"
    store, key = split_uri(uri)
    return Wanted(opened(store), key, uri, buffer, entry.sha256)


def _is_taken(weight: WeightTensor) -> bool:
    """Whether engines take it from memory."""
    return weight.name is not None and datatype(weight.datatype).bits >= 8


def _initializer(weight: WeightTensor, buffer: memoryview) -> Initializer:
    return Initializer(weight.datatype, weight.shape, buffer[weight.offset : weight.offset + weight.length])


def _stand_in(path: Path, buffer: memoryview, written: list[WeightTensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb", buffering=0) as file:
        file.truncate(len(buffer))
        for weight in written:
            file.seek(weight.offset)
            rest = buffer[weight.offset : weight.offset + weight.length]
            while rest:  # one call writes at most what there is room for, and 2 GiB
                rest = rest[file.write(rest) :]
