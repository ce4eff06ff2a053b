"""Where the weights of slices lie: in the model's own files, or, where that cannot be, in one of their own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, Protocol

from lamella.graph.files import DataFile
from lamella.graph.model import Model
from lamella.graph.pieces import read_pieces
from lamella.graph.references import Range, encode_external, find_references
from lamella.graph.rewrite import rewrite_bytes
from lamella.graph.schema import Kind
from lamella.graph.stored import StoredTensor
from lamella.graph.weights import reference_of
from lamella.slicing.copying import copy_range
from lamella.slicing.directory import DECODED_NAME
from lamella.slicing.placement import Placement, place
from lamella.slicing.varints import write_decoded

PAGE_BYTES = 4096
"""What the kernel copies, maps and shares whole."""

_DECODED = "typed fields are decoded, and constants of bodies copied, once"
_COLUMNS = "columns of a weight that is split are put together, once"


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
    """Slices refer to the model's own files, which a hard link brings into the directory.

    Typed fields are decoded, and the constants of bodies copied, since ONNX Runtime refuses hard links for these. Parts
    of weights are copied where they are no single run of bytes.
    """

    model: Model
    directory: Path
    staging: Path
    _placed: dict[str, Placement] = field(default_factory=dict)
    _own: dict[Range, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._inner = {weight.range for weight in self.model.inner_weights}
        # With a second name for such external data, ONNX Runtime would refuse the model itself.
        own = {self.model.path.name}
        self._unlinkable = {place_.location for place_ in self._inner if place_ is not None} - own

    def settle(self, data: bytes, index: int) -> tuple[bytes, list[Range]]:
        """Put the files that the slice refers to into the directory."""
        found = find_references(data)
        if not all(self._is_plain(place_) for place_ in found) or not all(map(str.isprintable, self.model.files)):
            data, found = references(data, self._final)
        for place_ in found:
            self._place(place_)
        return data, merged(found)

    def _is_plain(self, used: Range) -> bool:
        file = self.model.files.get(used.location)
        inside = file is not None and used.offset + used.length <= file.size
        return inside and used.is_plain and used not in self._inner

    def _final(self, tensor: StoredTensor, old: Range) -> Range:
        return self._copied(tensor, old) if not old.is_plain or old in self._inner else old

    def _place(self, used: Range) -> None:
        if used.location in self._placed:
            return
        relative = PurePosixPath(used.location)
        folder = self.directory / relative.parent
        folder.mkdir(parents=True, exist_ok=True)
        source = self.model.files[used.location].path
        self._placed[used.location] = place(source, folder, relative.name, link=used.location not in self._unlinkable)

    def _copied(self, tensor: StoredTensor, old: Range) -> Range:
        if old not in self._own:
            path = self.staging / DECODED_NAME
            mode: Literal["r+b", "wb"] = "r+b" if self._own else "wb"
            with opened(self.model.files[old.location]) as source, path.open(mode) as target:
                offset = aligned(target)
                if old.is_plain:
                    copy_range(source.fileno(), target.fileno(), old.offset, offset, old.length)
                else:
                    write_run(source.fileno(), old, tensor, target)
            self._own[old] = Range(path.name, offset, tensor.nbytes)
            reasons = {_COLUMNS if place_.piece else _DECODED for place_ in self._own}
            self._placed[path.name] = Placement(path, "copy", "; ".join(sorted(reasons)))
        return self._own[old]

    def files(self) -> list[Placement]:
        """The model's files as placed, and the file of decoded weights."""
        return list(self._placed.values())


def aligned(target: BinaryIO) -> int:
    """Move `target` to the next page; return that offset."""
    end = target.seek(0, os.SEEK_END)
    offset = -(-end // PAGE_BYTES) * PAGE_BYTES
    target.truncate(offset)
    return target.seek(offset)


def write_run(source: int, place: Range, tensor: StoredTensor, target: BinaryIO) -> None:
    """Append to `target`, in one run and decoded, the elements that lie otherwise at `place` of the file `source`.

    Raises:
        MalformedModelError: They are not what the tensor claims.
    """
    if place.coding is not None:
        write_decoded(source, place, tensor, target)
    else:
        target.writelines(read_pieces(source, place))


def opened(file: DataFile) -> BinaryIO:
    """Open a file of weights to copy from; the caller closes it."""
    return file.path.open("rb", buffering=0)


def merged(ranges: list[Range]) -> list[Range]:
    """Ranges in order, joined where less than a page lies between them: what a slice reads, in few requests."""
    joined: list[Range] = []
    for place_ in sorted(set(ranges), key=lambda r: (r.location, r.offset)):
        last = joined[-1] if joined else None
        if last and last.location == place_.location and place_.offset <= last.offset + last.length + PAGE_BYTES:
            end = max(last.offset + last.length, place_.offset + place_.length)
            joined[-1] = Range(last.location, last.offset, end - last.offset)
        else:
            joined.append(Range(place_.location, place_.offset, place_.length))
    return joined
