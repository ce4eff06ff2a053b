"""Tensors that go around the door: into the bucket before a request, out of it after the answer.

```text
{"name": NAME, "shape": [...], "datatype": TYPE, "parameters": {"uri": URI, "sha256": HEX, "size": BYTES, "url": URL}}
```

What lies there are the tensor's raw bytes, as the protocol's binary extension has them. Outputs have all of that;
inputs need no `url`, and `size` only where the datatype does not say it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from typing import Literal

from lamella.errors import InputError, LamellaError
from lamella.runtime import json_fields as fields
from lamella.runtime.payload import Reference
from lamella.stores.opening import key_within
from lamella.stores.presigned import presigned
from lamella.tensors import datatype

URL_EXPIRES_S = 3600

_HINT = "give `name`, `shape`, `datatype`, and in `parameters` `uri` and `sha256`"


def take_references(
    body: bytes, header_length: str | None, store: str, prefix: str, *, kind: Literal["inputs", "outputs"] = "inputs"
) -> tuple[bytes, str | None, tuple[Reference, ...]]:
    """The body of an infer request without the inputs that are references, the length of its header, and these.

    Args:
        body: As it came.
        header_length: As it came; what is wrong with it is for others to say.
        store: URI of the only store that inputs may lie in.
        prefix: What their keys there begin with.
        kind: `outputs` for the body of an answer.

    Raises:
        InputError: A reference is incomplete, or leads elsewhere.
    """
    end = int(header_length) if header_length is not None and header_length.isdecimal() else len(body)
    if b'"uri"' not in body[:end]:
        return body, header_length, ()
    try:
        header = fields.members(json.loads(body[:end]))
        entries = fields.objects(header[kind])
        lying = [entry for entry in entries if "uri" in _parameters(entry)]
        references = tuple(_reference(entry, store, prefix) for entry in lying)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"an {kind[:-1]} by reference is incomplete: {error!r}", hint=_HINT) from error
    header[kind] = [entry for entry in entries if entry not in lying]
    text = json.dumps(header).encode()
    return text + body[end:], None if header_length is None else str(len(text)), references


def put_references(body: bytes, header_length: int | None, references: Sequence[Reference]) -> tuple[bytes, int | None]:
    """The body of an answer with outputs that stay in the store, and the length of its header."""
    if not references:
        return body, header_length
    end = len(body) if header_length is None else header_length
    header = json.loads(body[:end])
    header["outputs"] += [_entry(reference) for reference in references]
    text = json.dumps(header).encode()
    return text + body[end:], None if header_length is None else len(text)


def _reference(entry: Mapping[str, object], store: str, prefix: str) -> Reference:
    parameters, shape = _parameters(entry), fields.sizes(entry["shape"])
    name, kind, uri = (fields.text(value) for value in (entry["name"], entry["datatype"], parameters["uri"]))
    try:
        expected = datatype(kind).size_bytes(prod(shape))
        key = key_within(store, uri)
    except LamellaError as error:
        raise InputError(f"input `{name}` is no reference: {error.message}", hint=_HINT) from error
    if key is None or not key.startswith(prefix):
        raise InputError(
            f"input `{name}` lies at `{uri}`, where no inputs are", hint="ask for a place: `POST /lamella/uploads`"
        )
    size = fields.size(parameters["size"]) if "size" in parameters or not expected else expected
    return Reference(name, kind, shape, uri, size, fields.text(parameters["sha256"]).lower())


def _entry(reference: Reference) -> dict[str, object]:
    parameters: dict[str, object] = {"uri": reference.uri, "sha256": reference.sha256, "size": reference.size}
    url = presigned("GET", reference.uri, expires_s=URL_EXPIRES_S)
    if url is not None:
        parameters["url"] = url
    return {
        "name": reference.name,
        "shape": list(reference.shape),
        "datatype": reference.datatype,
        "parameters": parameters,
    }


def _parameters(entry: Mapping[str, object]) -> Mapping[str, object]:
    return fields.members(entry.get("parameters") or {})
