"""One platform's file, read and checked value by value."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import NoReturn, get_args

from lamella.errors import UsageError
from lamella.platforms.base import Architecture, Figure
from lamella.platforms.fields import PER_ARCHITECTURE, SECTIONS, Field, known_fields

SCHEMA = "lamella.platform/1"

_DEEPEST = 20

_TEXTS = ("schema", "name", "title", "extends")
_LISTS = ("architectures", "python_versions")
_FIGURE = ("value", "unit", "source", "as_of")
_KIND_NAMES = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "`true` or `false`",
    "integers": "a list of whole numbers",
}


@dataclass(frozen=True)
class Document:
    """What one file says, before what it extends is put under it.

    Attributes:
        path: The file.
        texts: Its `name`, `title` and `extends`, those that it has.
        lists: Its `architectures` and `python_versions`, those that it has.
        figures: Its values, by place.
        profiles: For each profile, the values that it changes.
    """

    path: Path
    texts: Mapping[str, str]
    lists: Mapping[str, tuple[str, ...]]
    figures: Mapping[str, Figure]
    profiles: Mapping[str, Mapping[str, Figure]]


def read_document(path: Path) -> Document:
    """Read and check a platform's file; the only I/O is reading it.

    Raises:
        UsageError: It cannot be read, is no TOML, is of another schema, or a key, type, unit or range is wrong.
    """
    return _Reader(path).document()


class _Reader:
    """Checks one file; every complaint names the file and the key."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def document(self) -> Document:
        content = self._content()
        self._check_nesting(content, "")
        self._check_schema(content)
        self._check_keys(content, "", (*_TEXTS, *_LISTS, *SECTIONS, "profiles"))
        profiles = self._table(content.get("profiles", {}), "profiles")
        return Document(
            path=self._path,
            texts={key: self._text(content[key], key) for key in _TEXTS[1:] if key in content},
            lists={key: self._list(content[key], key) for key in _LISTS if key in content},
            figures=dict(self._figures({key: content[key] for key in SECTIONS if key in content}, "")),
            profiles={name: dict(self._profile(name, entry)) for name, entry in profiles.items()},
        )

    def _content(self) -> dict[str, object]:
        try:
            return tomllib.loads(self._path.read_text(encoding="utf-8"))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(f"platform file `{self._path}` cannot be read: {reason}", hint="check the path") from error
        except RecursionError as error:
            hint = f"give its tables at most {_DEEPEST} levels"
            raise UsageError(f"platform file `{self._path}` nests too deeply", hint=hint) from error
        except ValueError as error:  # no UTF-8, or no TOML
            raise UsageError(f"`{self._path}` is no TOML file: {error}", hint="correct it there") from error

    def _check_nesting(self, value: object, where: str, depth: int = 0) -> None:
        """Refuse what cannot be computed with or shown: integers of more than 64 bits, and tables without end."""
        if depth > _DEEPEST:
            self._refuse("nests too deeply", f"give its tables at most {_DEEPEST} levels")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            self._refuse(f"has an integer of more than 64 bits at `{where}`", "write a smaller number")
        if isinstance(value, dict):
            for key, item in value.items():
                self._check_nesting(item, f"{where}.{key}" if where else key, depth + 1)
        if isinstance(value, list):
            for item in value:
                self._check_nesting(item, where, depth + 1)

    def _check_schema(self, content: Mapping[str, object]) -> None:
        if content.get("schema") != SCHEMA:
            said = f"says `{content['schema']}`" if "schema" in content else "says none"
            hint = f'begin the file with `schema = "{SCHEMA}"`'
            raise UsageError(f"`{self._path}` is no platform file of schema `{SCHEMA}`: it {said}", hint=hint)

    def _check_keys(self, table: Mapping[str, object], where: str, known: Collection[str]) -> None:
        for key in table:
            if key not in known:
                close = get_close_matches(key, known, 1)
                hint = f"did you mean `{where}{close[0]}`?" if close else f"there is {_quoted(known)}"
                self._refuse(f"has an unknown key `{where}{key}`", hint)

    def _profile(self, name: str, entry: object) -> Iterator[tuple[str, Figure]]:
        where = f"profiles.{name}."
        table = self._table(entry, where[:-1])
        self._check_keys(table, where, SECTIONS)
        return self._figures(table, where)

    def _figures(self, sections: Mapping[str, object], where: str) -> Iterator[tuple[str, Figure]]:
        for section, content in sections.items():
            table = self._table(content, f"{where}{section}")
            places = [place for place in known_fields() if place.startswith(f"{section}.")]
            self._check_keys(table, f"{where}{section}.", [place.partition(".")[2] for place in places])
            for key, entry in table.items():
                place = f"{section}.{key}"
                if place != PER_ARCHITECTURE:
                    yield place, self._figure(entry, f"{where}{place}", known_fields()[place])
                    continue
                prices = self._table(entry, f"{where}{place}")
                self._check_keys(prices, f"{where}{place}.", get_args(Architecture))
                for name, price in prices.items():
                    yield f"{place}.{name}", self._figure(price, f"{where}{place}.{name}", known_fields()[place])

    def _figure(self, entry: object, key: str, field: Field) -> Figure:
        table = self._table(entry, key)
        self._check_keys(table, f"{key}.", _FIGURE)
        for part in _FIGURE:
            if part not in table:
                hint = "every value says `value`, `unit`, `source` and `as_of`, the date it was read or measured"
                self._refuse(f"gives no `{part}` for `{key}`", hint)
        if table["unit"] != field.unit:
            self._refuse(f"gives `{key}` in `{table['unit']}`", f"give it in `{field.unit}`")
        source, as_of = self._text(table["source"], f"{key}.source"), table["as_of"]
        if type(as_of) is not date:
            self._refuse(f"has a wrong `{key}.as_of`", "write a date such as `2026-11-01`, without quotes")
        return Figure(self._value(table["value"], key, field), field.unit, source, as_of)

    def _value(self, value: object, key: str, field: Field) -> float | int | bool | tuple[int, ...] | None:
        if field.removable and value == "none":
            return None
        if field.kind == "boolean" and isinstance(value, bool):
            return value
        if field.kind == "integers" and isinstance(value, list):
            return tuple(int(self._number(item, key, field)) for item in value)
        if field.kind in ("boolean", "integers"):
            self._refuse(f"has a wrong `{key}.value`", f"write {_KIND_NAMES[field.kind]}")
        return self._number(value, key, field)

    def _number(self, value: object, key: str, field: Field) -> float:
        whole = field.kind != "number"
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not isfinite(value):
            none = ', or `"none"` where there is no such limit' if field.removable else ""
            self._refuse(f"has a wrong `{key}.value`", f"write {_KIND_NAMES[field.kind]}{none}")
        if value < 0 or (field.positive and value == 0):
            self._refuse(f"has `{key}` = {value}", f"it must be {'above' if field.positive else 'at least'} 0")
        if field.most is not None and value > field.most:
            self._refuse(f"has `{key}` = {value}", f"it must be at most {field.most}")
        if field.unit == "share" and value > 1:
            self._refuse(f"has `{key}` = {value}", "it is a share from 0 to 1")
        return value if whole else float(value)

    def _table(self, value: object, key: str) -> dict[str, object]:
        if not isinstance(value, dict):
            self._refuse(f"has a value where `{key}` is a table", f"write `[{key}]`, or `{{ ... }}`")
        return value

    def _text(self, value: object, key: str) -> str:
        if not isinstance(value, str) or not value.strip():
            self._refuse(f"has a wrong `{key}`", "write a text in quotes, which is not empty")
        return value

    def _list(self, value: object, key: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._refuse(f"has a wrong `{key}`", "write a list of texts")
        known = get_args(Architecture)
        if key == "architectures" and (not value or not set(value) <= set(known)):
            self._refuse(f"has a wrong `{key}`", f"write a list of {_quoted(known)}, the default one first")
        return tuple(value)

    def _refuse(self, what: str, hint: str) -> NoReturn:
        raise UsageError(f"platform file `{self._path}` {what}", hint=hint)


def _quoted(names: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
