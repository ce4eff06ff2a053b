"""Options of a task from settings, such as a table of a TOML file has them."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lamella.errors import UsageError

Options = TypeVar("Options")


def changed(options: Options, settings: Mapping[str, object], task: str) -> Options:
    """Options, a frozen dataclass, with what the settings say otherwise.

    Raises:
        UsageError: A setting is unknown, or has a value of another type.
    """
    hints = get_type_hints(type(options))
    check_names(settings, hints, task)
    values = {name: _checked(name, value, hints[name]) for name, value in settings.items()}
    return replace(options, **values)  # type: ignore[type-var]  # any dataclass


def check_names(settings: Mapping[str, object], known: Iterable[str], task: str) -> None:
    """Refuse settings that a task does not have.

    Raises:
        UsageError: One is unknown.
    """
    names = sorted(known)
    for name in settings:
        if name not in names:
            close = get_close_matches(name, names, 1)
            listed = ", ".join(f"`{one}`" for one in names) or "none"
            hint = f"did you mean `{close[0]}`?" if close else f"its settings are {listed}"
            raise UsageError(f"the task `{task}` has no setting `{name}`", hint=hint)


def names_of(*options: type) -> tuple[str, ...]:
    """The settings that these dataclasses have."""
    return tuple(field.name for one in options for field in fields(one))


def picked(settings: Mapping[str, object], options: type) -> dict[str, object]:
    """Those of the settings that a dataclass has."""
    return {name: value for name, value in settings.items() if name in names_of(options)}


def _checked(name: str, value: object, hint: Any) -> object:  # noqa: ANN401 - a type, as `typing` gives it
    found = _converted(value, hint)
    if found is _WRONG:
        raise UsageError(f"the setting `{name}` cannot be `{value!r:.80}`", hint=f"give {_described(hint)}")
    return found


_WRONG = object()


def _converted(value: object, hint: Any) -> object:  # noqa: ANN401
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return next((found for one in inner if (found := _converted(value, one)) is not _WRONG), _WRONG)
    if origin is Literal:
        return value if value in inner else _WRONG
    if origin is tuple:
        return _sequence(value, inner)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, bool):
        return _WRONG
    return value if isinstance(value, hint) else _WRONG


def _sequence(value: object, inner: tuple[Any, ...]) -> object:
    if not isinstance(value, (list, tuple)):
        return _WRONG
    kinds = inner[:1] * len(value) if inner[-1] is ... else inner
    found = tuple(_converted(item, kind) for item, kind in zip(value, kinds, strict=False))
    return _WRONG if len(value) != len(kinds) or any(item is _WRONG for item in found) else found


def _described(hint: Any) -> str:  # noqa: ANN401
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_described(one) for one in inner if one is not types.NoneType)
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin is tuple:
        return f"a list of {_described(inner[0])}" + ("" if inner[-1] is ... else f", {len(inner)} of them")
    return _WORDS.get(hint, str(hint))


_WORDS = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "`true` or `false`",
}
