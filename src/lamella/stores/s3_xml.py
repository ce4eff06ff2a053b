"""The XML that S3 answers with, from servers that need not be trusted.

Expat itself is used: what is around it in the standard library takes longer to import. Documents of S3 have no document
type, so that one which declares a type, and with it entities, is refused where it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MOST_BYTES = 8 << 20
"""Of an answer: a page of a thousand keys, each a kilobyte in percent-encoding, takes half of it."""

_MOST_ELEMENTS, _DEEPEST = 50_000, 16


class BadXmlError(Exception):
    """It is no XML as S3 writes it."""


@dataclass(slots=True)
class Element:
    """An element: its name, its text, and what is in it."""

    name: str
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, name: str) -> Iterator[Element]:
        """The elements of a name that are directly in it."""
        return (child for child in self.children if child.name == name)

    def say(self, name: str) -> str:
        """The text of the first of them; nothing where there is none."""
        return next((child.text for child in self.all(name)), "")


def read_xml(content: bytes) -> Element:
    """The root of a document.

    Raises:
        BadXmlError: It is none, declares a document type, or is too deep or too large.
    """
    from xml.parsers.expat import ExpatError, ParserCreate

    if len(content) > MOST_BYTES:
        raise BadXmlError("it is too large")
    parser, reader = ParserCreate(), _Reader()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = reader.said, reader.doctype
    try:
        parser.Parse(content, True)
    except ExpatError as error:
        raise BadXmlError("it is not well-formed") from error
    return reader.top.children[0]


class _Reader:
    def __init__(self) -> None:
        self.top = Element("")
        self._open, self._count = [self.top], 0

    def start(self, name: str, _: object) -> None:
        self._count += 1
        if self._count > _MOST_ELEMENTS or len(self._open) > _DEEPEST:
            raise BadXmlError("it is too large")
        element = Element(name)
        self._open[-1].children.append(element)
        self._open.append(element)

    def end(self, _: str) -> None:
        self._open.pop()

    def said(self, text: str) -> None:
        self._open[-1].text += text

    def doctype(self, *_: object) -> None:
        raise BadXmlError("it declares a document type")
