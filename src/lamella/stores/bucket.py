"""`s3://bucket/prefix?endpoint_url=...&region=...`: which bucket, where in it, and who keeps it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from lamella.errors import StoreError, UsageError

_SCHEME = "s3://"
_SETTINGS = ("endpoint_url", "region")


@dataclass(frozen=True, slots=True)
class Bucket:
    """A place in a bucket.

    Attributes:
        name: The bucket.
        prefix: What all keys there begin with, without the slash behind it; may be empty.
        endpoint_url: The server; None for AWS's own.
        region: The region; None for what boto3 is configured with.
    """

    name: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None

    def key(self, key: str) -> str:
        """A key in the bucket, from one below the prefix."""
        return f"{self.prefix}/{key}" if self.prefix else key

    def uri(self, key: str | None = None) -> str:
        """The URI of this place, or of an object below it."""
        path = self.prefix if key is None else self.key(key)
        settings = {name: value for name in _SETTINGS if (value := getattr(self, name)) is not None}
        return f"{_SCHEME}{self.name}{'/' if path else ''}{quote(path)}{'?' if settings else ''}{urlencode(settings)}"


def read_bucket(uri: str) -> Bucket:
    """Read the `s3://` URI of a store.

    Raises:
        UsageError: It names no bucket, or has settings that are not known.
    """
    found = _read(uri)
    return replace(found, prefix=found.prefix.rstrip("/"))


def _read(uri: str) -> Bucket:
    place, _, query = uri.removeprefix(_SCHEME).partition("?")
    name, _, path = place.partition("/")
    settings = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(settings.keys() - set(_SETTINGS))
    if not name or unknown:
        reason = f"`{unknown[0]}` is no setting" if unknown else "it names no bucket"
        raise UsageError(
            f"`{_SCHEME}{place}` cannot be opened: {reason}",
            hint="give `s3://bucket/prefix?endpoint_url=...&region=...`",
        )
    endpoint = settings.get("endpoint_url") or None
    if endpoint is not None:
        _check_endpoint(endpoint, place)
    return Bucket(name, unquote(path), endpoint, settings.get("region") or None)


def split_object(uri: str) -> tuple[str, str]:
    """URI of the bucket, and key in it, of an object.

    Raises:
        StoreError: It names the bucket only.
    """
    bucket, key = read_object(uri)
    return bucket.uri(), key


def read_object(uri: str) -> tuple[Bucket, str]:
    """The bucket, and key in it, of an object.

    Raises:
        StoreError: It names the bucket only.
    """
    found = _read(uri)
    if not found.prefix:
        raise StoreError(f"`{found.uri()}` names no object", hint="give the URI that writing it returned")
    return replace(found, prefix=""), found.prefix


def key_in_bucket(store_uri: str, uri: str) -> str | None:
    """The key of an object below a bucket's prefix; None where it is not there."""
    store, found = read_bucket(store_uri), _read(uri)
    above = store.key("")
    if (store.name, store.endpoint_url) != (found.name, found.endpoint_url) or not found.prefix.startswith(above):
        return None
    return found.prefix.removeprefix(above) or None


def _check_endpoint(endpoint: str, place: str) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"the `endpoint_url` of `{_SCHEME}{place}` is no URL", hint="give one such as `http://127.0.0.1:9000`"
        )
    if parts.username is not None or parts.password is not None:  # URIs are shown, logged and passed on
        raise UsageError(
            f"the `endpoint_url` of `{_SCHEME}{place}` holds credentials",
            hint="give them in `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or a profile",
        )
