"""Where the weights of slices lie: in the model's own files, or in aligned copies of just what each slice needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, Protocol

from lamella.graph.files import DataFile
from lamella.graph.model import Model
from lamella.graph.references import Range, encode_external, find_references
from lamella.graph.rewrite import rewrite_bytes
from lamella.graph.schema import Kind
from lamella.graph.stored import StoredTensor
from lamella.graph.weights import reference_of
from lamella.slicing.copying import copy_range
from lamella.slicing.placement import Placement, place
from lamella.slicing.varints import write_decoded

ALIGNMENT_BYTES = 4096
"""Copied weights start on a page, so that they can be mapped wherever ONNX Runtime maps."""


class Weights(Protocol):
    """Gives each slice's references their final place."""

    def settle(self, data: bytes, index: int) -> tuple[bytes, list[Range]]:
        """The slice's bytes with final references, and those references, merged where they touch."""
        ...

    def files(self) -> list[Placement]:
        """The files with weights that lie in the directory now."""
        ...


def references(data: bytes, replace: Callable[[StoredTensor, Range], Range]) -> tuple[bytes, list[Range]]:
    """Replace every reference in a serialised model; return it and the new references."""
    found: list[Range] = []

    def settle(tensor: StoredTensor) -> bytes | None:
        if tensor.external is None:
            return None
        old = reference_of(tensor.external)
        new = replace(tensor, old)
        found.append(new)
        return None if new == old else encode_external(new)

    return rewrite_bytes(data, Kind.MODEL, settle), found


@dataclass
class ReferencedWeights:
    """Slices refer to the model's own files, which a hard link brings into the directory. Typed fields are decoded."""

    model: Model
    directory: Path
    _placed: dict[str, Placement] = field(default_factory=dict)
    _decoded: dict[Range, Range] = field(default_factory=dict)

    def settle(self, data: bytes, index: int) -> tuple[bytes, list[Range]]:
        """Put the files that the slice refers to into the directory."""
        found = find_references(data)
        if any(place_.coding for place_ in found):
            data, found = references(data, self._final)
        for place_ in found:
            self._place(place_)
        return data, merged(found)

    def _final(self, tensor: StoredTensor, old: Range) -> Range:
        return old if old.coding is None else self._decode(tensor, old)

    def _place(self, used: Range) -> None:
        if used.location in self._placed:
            return
        relative = PurePosixPath(used.location)
        folder = self.directory / relative.parent
        folder.mkdir(parents=True, exist_ok=True)
        self._placed[used.location] = place(self.model.files[used.location].path, folder, relative.name)

    def _decode(self, tensor: StoredTensor, old: Range) -> Range:
        if old not in self._decoded:
            path = self.directory / "typed_weights.data"
            mode: Literal["ab", "wb"] = "ab" if self._decoded else "wb"
            with _opened(self.model.files[old.location]) as source, path.open(mode) as target:
                offset = _aligned(target)
                write_decoded(source.fileno(), old, tensor, target)
            self._decoded[old] = Range(path.name, offset, tensor.nbytes)
            self._placed[path.name] = Placement(path, "copy", "typed fields are decoded once")
        return self._decoded[old]

    def files(self) -> list[Placement]:
        """The model's files as placed, and the file of decoded weights."""
        return list(self._placed.values())


@dataclass
class CopiedWeights:
    """Each slice gets a file with its own weights, page-aligned; the kernel copies them (or shares the blocks)."""

    model: Model
    directory: Path
    _files: list[Placement] = field(default_factory=list)

    def settle(self, data: bytes, index: int) -> tuple[bytes, list[Range]]:
        """Copy the slice's weights."""
        path = self.directory / f"slice_{index:03d}.data"
        copied: dict[Range, Range] = {}
        sources: dict[str, BinaryIO] = {}

        def move(tensor: StoredTensor, old: Range) -> Range:
            if old not in copied:
                if old.location not in sources:
                    sources[old.location] = _opened(self.model.files[old.location])
                copied[old] = _copy(sources[old.location].fileno(), tensor, old, target)
            return copied[old]

        try:
            with path.open("wb") as target:
                data, found = references(data, move)
        finally:
            for source in sources.values():
                source.close()
        if found:
            self._files.append(Placement(path, "copy"))
        else:
            path.unlink()
        return data, merged(found)

    def files(self) -> list[Placement]:
        """One file a slice, for those that have weights."""
        return self._files


def _copy(source: int, tensor: StoredTensor, old: Range, target: BinaryIO) -> Range:
    offset = _aligned(target)
    name = Path(target.name).name
    if old.coding is not None:
        write_decoded(source, old, tensor, target)
        return Range(name, offset, tensor.nbytes)
    copy_range(source, target.fileno(), old.offset, offset, old.length)
    target.seek(offset + old.length)
    return Range(name, offset, old.length)


def _aligned(target: BinaryIO) -> int:
    """Move `target` to the next page; return that offset."""
    end = target.seek(0, os.SEEK_END)
    offset = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    target.truncate(offset)
    return target.seek(offset)


def _opened(file: DataFile) -> BinaryIO:
    return file.path.open("rb", buffering=0)


def merged(ranges: list[Range]) -> list[Range]:
    """Ranges in order, joined where less than a page lies between them: what a slice reads, in few requests."""
    joined: list[Range] = []
    for place_ in sorted(set(ranges), key=lambda r: (r.location, r.offset)):
        last = joined[-1] if joined else None
        if last and last.location == place_.location and place_.offset <= last.offset + last.length + ALIGNMENT_BYTES:
            end = max(last.offset + last.length, place_.offset + place_.length)
            joined[-1] = Range(last.location, last.offset, end - last.offset)
        else:
            joined.append(Range(place_.location, place_.offset, place_.length))
    return joined
