"""Platforms by name or file: each file put over what it extends, with a profile and the user's own values on top."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from lamella.errors import UsageError
from lamella.platforms.base import Architecture, Figure, Limits, Platform, Pricing, Speeds
from lamella.platforms.document import Document, read_document
from lamella.platforms.fields import PER_ARCHITECTURE, known_fields

_FOLDER = Path(__file__).parent


def platform_names() -> list[str]:
    """The names of the platforms that come with Lamella, sorted."""
    return sorted(path.stem.replace("_", "-") for path in _FOLDER.glob("*.toml"))


def platforms() -> list[Platform]:
    """The platforms that come with Lamella, without a profile, sorted by name. Reads their files."""
    return [load_platform(name) for name in platform_names()]


def load_platform(name_or_path: str | Path, *, profile: str | None = None, overrides: Path | None = None) -> Platform:
    """A platform's limits, prices and speeds, each with where it comes from.

    A value is looked for in `overrides`, then in the platform's file, then in the file that this one extends, and so
    on. In each file a value of the profile goes before one of the platform itself.

    Args:
        name_or_path: A name such as `aws-lambda`, or a `.toml` file of the user's.
        profile: A variant that one of the files describes, such as `new-account`.
        overrides: A `.toml` file with single values to replace, such as measured speeds.

    Raises:
        UsageError: There is no such platform or profile, or a file is wrong: the text names the file and the key.
    """
    documents = _documents(_path_of(name_or_path))
    own = documents[-1]
    if overrides is not None:
        documents.append(_overrides(overrides))
    profiles = list(dict.fromkeys(name for document in documents for name in document.profiles))
    if profile is not None and profile not in profiles:
        raise _unknown_profile(str(name_or_path), profile, profiles)
    figures: dict[str, Figure] = {}
    lists: dict[str, tuple[str, ...]] = {}
    for document in documents:
        figures |= document.figures
        figures |= document.profiles.get(profile, {}) if profile is not None else {}
        lists |= document.lists
    _check_complete(own.path, figures, lists)
    name = own.texts.get("name", own.path.stem)
    platform = Platform(
        name=name,
        title=own.texts.get("title", name),
        architectures=cast("tuple[Architecture, ...]", lists["architectures"]),
        python_versions=lists.get("python_versions", ()),
        limits=Limits(**_values(figures, "limits")),
        pricing=Pricing(**{"gb_s_usd": _prices(figures), **_values(figures, "pricing")}),
        speeds=Speeds(**_values(figures, "speeds")),
        figures={place: figures[place] for place in _in_order(figures)},
        profile=profile,
        profiles=tuple(profiles),
    )
    _check_consistent(own.path, platform)
    return platform


def _path_of(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text:
        return Path(name_or_path)
    names = platform_names()
    if text not in names:
        close = get_close_matches(text, names, 1)
        hint = f"did you mean `{close[0]}`?" if close else f"there is {_quoted(names)}, or give a `.toml` file"
        raise UsageError(f"there is no platform `{text}`", hint=hint)
    return _FOLDER / f"{text.replace('-', '_')}.toml"


def _documents(path: Path) -> list[Document]:
    """The file and what it extends, the last ancestor first."""
    documents: list[Document] = []
    seen: set[Path] = set()
    following: Path | None = path
    while following is not None:
        if following.resolve() in seen:
            raise UsageError(f"platform file `{path}` extends itself", hint="remove one `extends`")
        seen.add(following.resolve())
        document = read_document(following)
        documents.insert(0, document)
        extends = document.texts.get("extends")
        following = None if extends is None else _path_of(extends)
        if following is not None and following.parent != _FOLDER:
            following = document.path.parent / following  # as that file means it
    return documents


def _overrides(path: Path) -> Document:
    document = read_document(path)
    for key in document.texts:
        raise UsageError(
            f"platform file `{path}` says `{key}`, but it only replaces values",
            hint=f"remove `{key}`, or give the file as the platform itself",
        )
    return document


def _unknown_profile(platform: str, profile: str, profiles: Sequence[str]) -> UsageError:
    close = get_close_matches(profile, profiles, 1)
    hint = f"it has {_quoted(profiles)}" if profiles else "leave the profile out"
    return UsageError(
        f"platform `{platform}` has no profile `{profile}`", hint=f"did you mean `{close[0]}`?" if close else hint
    )


def _check_complete(path: Path, figures: Collection[str], lists: Collection[str]) -> None:
    missing = [place for place, field in known_fields().items() if field.required and place not in figures]
    missing += [key for key in ("architectures",) if key not in lists]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UsageError(
            f"platform file `{path}` has no `{missing[0]}`{more}",
            hint='give it, or let the file say `extends = "aws-lambda"`, whose values then stand for what it lacks',
        )


def _check_consistent(path: Path, platform: Platform) -> None:
    limits, pricing = platform.limits, platform.pricing
    sizes = limits.memory_sizes_mb or (limits.memory_min_mb, limits.memory_max_mb)
    if list(sizes) != sorted(sizes) or not limits.memory_min_mb <= sizes[0] <= sizes[-1] <= limits.memory_max_mb:
        raise UsageError(
            f"platform file `{path}` has memory sizes {', '.join(map(str, sizes))} MB, which do not ascend from "
            f"`limits.memory_min_mb` to `limits.memory_max_mb`",
            hint="correct `limits.memory_min_mb`, `limits.memory_max_mb` or `limits.memory_sizes_mb`",
        )
    unpriced = [name for name in platform.architectures if name not in pricing.gb_s_usd]
    if unpriced and (pricing.gb_s_usd or not (pricing.vcpu_s_usd and pricing.gib_s_usd)):
        raise UsageError(
            f"platform file `{path}` has no price `{PER_ARCHITECTURE}.{unpriced[0]}`",
            hint="give it, or `pricing.vcpu_s_usd` and `pricing.gib_s_usd` alone",
        )


def _values(figures: Mapping[str, Figure], section: str) -> dict[str, Any]:
    named = ((place.partition("."), figure.value) for place, figure in figures.items())
    return {key: value for (owner, _, key), value in named if owner == section and "." not in key}


def _prices(figures: Mapping[str, Figure]) -> dict[str, float]:
    prefix = f"{PER_ARCHITECTURE}."
    return {
        place.removeprefix(prefix): cast("float", figure.value)
        for place, figure in figures.items()
        if place.startswith(prefix)
    }


def _in_order(figures: Collection[str]) -> list[str]:
    """Places in the order of the documentation, whatever that of the files."""
    order = {place: index for index, place in enumerate(known_fields())}
    return sorted(figures, key=lambda place: (order[".".join(place.split(".")[:2])], place))


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
