"""Mutations of ONNX models that know the messages, so that what comes out is still a protobuf most of the time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

from onnx import ModelProto
from tests import wire
from tests.hostile import FOUR, GOOD
from tests.wire import (
    adding,
    constant,
    entry,
    external,
    graph,
    message,
    model,
    node,
    number,
    raw,
    tensor,
    value,
    varint,
)

from lamella.graph.protobuf import fields

INTERESTING = (0, 1, 2, 3, 127, 128, (1 << 31) - 1, 1 << 31, (1 << 32) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
INSERTED = (
    (14, wire.VARINT, 1),
    (14, wire.VARINT, 0),
    (14, wire.VARINT, (1 << 32) + 1),
    (13, wire.LEN, entry(13, "location", "/etc/passwd")[2:]),
    (13, wire.LEN, entry(13, "location", "w.bin")[2:]),
    (13, wire.LEN, entry(13, "offset", "99")[2:]),
    (9, wire.LEN, FOUR),
    (1, wire.VARINT, 4),
    (1, wire.LEN, b"\x04"),
    (2, wire.VARINT, 7),
)
"""Fields of a TensorProto that change what another reader makes of it."""


@dataclass
class Field:
    """One field: its children where it is a message, else its value."""

    number: int
    wire: int
    value: int | bytes = b""
    children: list[Field] | None = None
    tag_bytes: int = 0
    length_bytes: int = 0

    def encode(self) -> bytes:
        head = varint((self.number << 3 | self.wire) & (1 << 70) - 1, length=self.tag_bytes)
        if self.wire == wire.VARINT:
            return head + varint(self.value if isinstance(self.value, int) else 0, length=self.length_bytes)
        if self.wire != wire.LEN:
            return head + (self.value if isinstance(self.value, bytes) else b"")
        body = self.value if self.children is None else b"".join(child.encode() for child in self.children)
        assert isinstance(body, bytes)
        return head + varint(len(body), length=self.length_bytes) + body


def parse(data: bytes, kind: object = ModelProto.DESCRIPTOR) -> list[Field]:
    """The fields of a message, with their children, by ONNX's own description of it."""
    found = []
    for number_, wire_, _, start, end in fields(data, 0, len(data)):
        known = kind.fields_by_number.get(number_)  # type: ignore[attr-defined]
        value_ = start if wire_ == wire.VARINT else data[start:end]
        inner = known.message_type if known is not None and wire_ == wire.LEN else None
        children = parse(data[start:end], inner) if inner is not None else None
        found.append(Field(number_, wire_, value_, children))
    return found


def _lists(fields_: list[Field]) -> Iterator[list[Field]]:
    yield fields_
    for item in fields_:
        if item.children is not None:
            yield from _lists(item.children)


def mutate(data: bytes, chance: random.Random, times: int) -> bytes:
    """`data` with a few fields repeated, removed, moved, changed, or encoded in another way."""
    tree = parse(data)
    for _ in range(times):
        lists = [found for found in _lists(tree) if found]
        if lists:
            _change(chance.choice(lists), lists, chance)
    return b"".join(item.encode() for item in tree)


def _change(place: list[Field], lists: list[list[Field]], chance: random.Random) -> None:
    index = chance.randrange(len(place))
    item = place[index]
    match chance.randrange(9):
        case 0:
            place.insert(chance.randrange(len(place) + 1), deepcopy(item))
        case 1:
            del place[index]
        case 2:
            place.insert(chance.randrange(len(place) + 1), deepcopy(chance.choice(chance.choice(lists))))
        case 3:
            item.tag_bytes, item.length_bytes = chance.randrange(8), chance.randrange(12)
        case 4 if item.wire == wire.VARINT:
            item.value = chance.choice(INTERESTING)
        case 5:
            item.number += chance.choice((1, -1, 1 << 29))
        case 6 if item.children is not None and item.children:
            cut = chance.randrange(len(item.children) + 1)  # one message in two halves, which protobuf merges
            halves = item.children[:cut], item.children[cut:]
            place[index : index + 1] = [Field(item.number, item.wire, b"", half) for half in halves]
        case 7 if isinstance(item.value, bytes) and item.children is None and item.value:
            at = chance.randrange(len(item.value))
            item.value = item.value[:at] + bytes([chance.randrange(256)]) + item.value[at + chance.randrange(2) :]
        case _:
            number_, wire_, value_ = chance.choice(INSERTED)
            place.insert(chance.randrange(len(place) + 1), Field(number_, wire_, value_))


def _subgraph(body: bytes) -> bytes:
    branch = message(2, "body") + message(12, value("z")) + body + message(1, node("Relu", ("x",), ("z",)))
    made = node("If", ("c",), ("y",), message(1, "then_branch") + message(6, branch))
    return model(graph(message(11, value("c", (), 9)), message(1, made)))


_OUTSIDE = tensor(payload=external({"location": "w.bin", "offset": "0", "length": "16"}))
_LARGE = tensor("w", (2000,), payload=raw(bytes(8000)))
SEEDS = (
    GOOD,
    adding(_OUTSIDE),
    adding(_LARGE),
    adding(tensor("w", (2000,), wire.INT64, message(7, varint(300) * 2000))),
    adding(tensor("w", (2,), wire.STRING, message(6, "a") + message(6, "b"))),
    constant(message(5, _OUTSIDE)),
    constant(message(5, _LARGE)),
    _subgraph(message(5, _OUTSIDE)),
    _subgraph(message(1, node("Constant", (), ("k",), message(1, "value") + message(5, _OUTSIDE)))),
    GOOD
    + message(25, message(1, "f"), message(7, node("Constant", (), ("k",), message(1, "v") + message(5, _OUTSIDE)))),
    GOOD + message(20, message(1, message(5, _OUTSIDE))),
    model(
        graph(
            message(
                15,
                message(1, _OUTSIDE),
                message(2, tensor("", (4,), wire.INT64, message(7, b"\1\2\3\4"))),
                number(3, 9),
            ),
            message(1, node("Relu", ("x",), ("y",))),
        )
    ),
)
"""Small models with a tensor wherever one can be; `w.bin` holds 16 bytes."""
