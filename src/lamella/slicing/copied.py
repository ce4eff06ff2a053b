"""Copies of just the weights that each slice needs, one file a slice.

Weights that lie together in the source are copied as one block whose pages are the source's pages: the kernel then
moves whole pages, or shares them where the file system has reflinks (`benchmarks/slicing.py` compares it with `cp`).
Starting every tensor on a page of its own was slower, and rules reflinks out. A weight keeps the alignment that it has
in the source.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lamella.graph.model import Model
from lamella.graph.references import Range
from lamella.graph.stored import StoredTensor
from lamella.runtime.cpu import thread_count
from lamella.slicing.copying import copy_range
from lamella.slicing.placement import Placement
from lamella.slicing.weights import PAGE_BYTES, aligned, merged, opened, references, write_run


@dataclass
class CopiedWeights:
    """Each slice gets a file with its own weights. Files are copied side by side, while the next slice is assembled."""

    model: Model
    directory: Path
    _files: list[Placement] = field(default_factory=list)
    _copies: list[Future[None]] = field(default_factory=list)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(thread_count()))

    def settle(self, data: bytes, index: int) -> tuple[bytes, list[Range]]:
        """Point the slice's references into its own file, and start to copy that."""
        tensors: dict[Range, StoredTensor] = {}

        def remember(tensor: StoredTensor, old: Range) -> Range:
            tensors[old] = tensor
            return old

        data, found = references(data, remember)
        if not found:
            return data, []
        path = self.directory / f"slice_{index:03d}.data"
        blocks = merged([old for old in found if old.is_plain])
        starts, end = _layout(blocks)
        moved = {old: _moved(old, blocks, starts, path.name) for old in found if old.is_plain}
        moved |= self._decode([(old, tensors[old]) for old in found if not old.is_plain], path, end)
        self._copies.append(self._pool.submit(self._copy, blocks, starts, path))
        self._files.append(Placement(path, "copy"))
        data, found = references(data, lambda _, old: moved[old])
        return data, merged(found)

    def _decode(self, coded: list[tuple[Range, StoredTensor]], path: Path, end: int) -> dict[Range, Range]:
        """Write weights from typed fields, and parts that lie in pieces, behind the blocks."""
        moved: dict[Range, Range] = {}
        with path.open("wb") as target:
            target.truncate(end)
            for old, tensor in coded:
                if old not in moved:
                    offset = aligned(target)
                    with opened(self.model.files[old.location]) as source:
                        write_run(source.fileno(), old, tensor, target)
                    moved[old] = Range(path.name, offset, tensor.nbytes)
        return moved

    def _copy(self, blocks: list[Range], starts: list[int], path: Path) -> None:
        with path.open("r+b", buffering=0) as target:
            for block, start in zip(blocks, starts, strict=True):
                with opened(self.model.files[block.location]) as source:
                    lead = block.offset % PAGE_BYTES  # the bytes before the block on its first page come along
                    offset, length = block.offset - lead, block.length + lead
                    copy_range(source.fileno(), target.fileno(), offset, start - lead, length)

    def files(self) -> list[Placement]:
        """One file a slice, for those that have weights, once all are copied.

        Raises:
            OSError: A copy failed.
        """
        with self._pool:
            for copy in self._copies:
                copy.result()
        return self._files


def _layout(blocks: list[Range]) -> tuple[list[int], int]:
    """Where each block starts in the new file, at the same place in a page as before, and where the last ends."""
    starts, end = [], 0
    for block in blocks:
        starts.append(-(-end // PAGE_BYTES) * PAGE_BYTES + block.offset % PAGE_BYTES)
        end = starts[-1] + block.length
    return starts, end


def _moved(old: Range, blocks: list[Range], starts: list[int], name: str) -> Range:
    for block, start in zip(blocks, starts, strict=True):
        if block.location == old.location and block.offset <= old.offset < block.offset + max(1, block.length):
            return Range(name, start + old.offset - block.offset, old.length)
    raise AssertionError("every range is in one of the blocks that were made from all of them")
