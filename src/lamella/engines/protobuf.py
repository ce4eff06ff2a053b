"""Protobuf messages, binary and as text, as far as it takes to find what a model takes and gives.

https://protobuf.dev/programming-guides/encoding/ and https://protobuf.dev/reference/protobuf/textformat-spec/. Nothing
here copies: weights are stepped over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_VARINT, _FIXED64, _LEN, _FIXED32 = 0, 1, 2, 5


def messages(message: memoryview, number: int) -> Iterator[memoryview]:
    """The values of a field that holds messages, strings or bytes.

    Raises:
        ValueError: The message is damaged.
    """
    return (value for found, value in _fields(message) if found == number and isinstance(value, memoryview))


def message(parent: memoryview, number: int) -> memoryview:
    """The last value of such a field, an empty one where there is none."""
    *_, last = (memoryview(b""), *messages(parent, number))
    return last


def text(parent: memoryview, number: int) -> str:
    """The value of a field that holds a string."""
    return str(message(parent, number), "utf-8")


def integers(message: memoryview, number: int) -> Iterator[int]:
    """The values of a field that holds integers, packed or not; negative ones as int64 has them."""
    for found, value in _fields(message):
        if found != number:
            continue
        if isinstance(value, int):
            yield _signed(value)
            continue
        position = 0
        while position < len(value):
            item, position = _varint(value, position)
            yield _signed(item)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        wire = tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        if wire == _LEN:
            length, position = _varint(data, position)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"no field starts with {tag}")
        if tag < 8 or length > end - position:
            raise ValueError(f"field {tag >> 3} runs past its message")
        yield tag >> 3, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise ValueError("a number has no end")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


@dataclass
class Text:
    """A message in text form.

    Attributes:
        values: Of each field with plain values: these as they are written, strings without their quotes.
        parts: Of each field with messages: these.
    """

    values: dict[str, list[str]] = field(default_factory=dict)
    parts: dict[str, list[Text]] = field(default_factory=dict)

    def value(self, name: str) -> str:
        """The last value of a field, an empty text where there is none."""
        return self.values.get(name, [""])[-1]

    def part(self, name: str) -> Text:
        """The last message of a field, an empty one where there is none."""
        return self.parts.get(name, [Text()])[-1]


_TOKEN = re.compile(r"""\s+|\#[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[{}<>:;,\[\]]|[^\s\#"'{}<>:;,\[\]]+""")
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)")
_DEEPEST = 100


def parse_text(source: str) -> Text:
    """Read a message in text form.

    Raises:
        ValueError: It is none.
    """
    top = Text()
    stack, name, listed = [top], "", False
    for token in _tokens(source):
        if token in "{<":
            inner = Text()
            stack[-1].parts.setdefault(name, []).append(inner)
            stack.append(inner)
            if not name or len(stack) > _DEEPEST:
                raise ValueError("a message has no name, or lies too deep")
            name = ""
        elif token in "}>":
            stack.pop()
            if name or not stack:
                raise ValueError(f"`{token}` closes nothing")
        elif token in "[]":
            listed = token == "["
            name = name if listed else ""
        elif token in ":;,":
            continue
        elif not name:
            name = token
        else:
            stack[-1].values.setdefault(name, []).append(_plain(token))
            name = name if listed else ""
    if len(stack) != 1 or name:
        raise ValueError("it ends in the middle of a message")
    return top


def _tokens(source: str) -> Iterator[str]:
    position = 0
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            raise ValueError(f"`{source[position]}` begins nothing")
        position = match.end()
        if not match[0].isspace() and not match[0].startswith("#"):
            yield match[0]


def _plain(token: str) -> str:
    if token[0] not in "\"'":
        return token
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)) if found[1][0].isdigit() else found[1], token[1:-1])
