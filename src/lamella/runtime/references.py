"""Tensors that travel through an object store, since they do not fit into a payload.

An event can make a function read and write only in the store that it names for its answer, and in no other than the
deployment's own where the function knows that. Outputs go under the prefix of the request, each under its position: a
name in a model may be anything.
"""

from __future__ import annotations

import json
import re

import numpy as np

from lamella.errors import InputError
from lamella.runtime.payload import AnswerPlace, Event, Reference
from lamella.stores.base import Store
from lamella.stores.opening import key_within, open_store
from lamella.stores.reading import Wanted, read_objects
from lamella.tensors import Array, datatype_of
from lamella.wire import Buffer, decode_parts, encode

_PREFIX = re.compile(r"requests/(?:[^/]+/)+")  # nothing else of a deployment is a request's to write


class ReferencedTensors:
    """Reads and writes them; stores stay open from one request to the next.

    Args:
        store: URI of the only store that may be used; None for whichever an event names.
        opened: That store, where it is open already.
    """

    def __init__(self, store: str | None = None, *, opened: Store | None = None) -> None:
        self._only = store
        self._opened: dict[str, Store] = {} if store is None or opened is None else {store: opened}

    def fetch(self, event: Event) -> dict[str, Array]:
        """Read what an event refers to, all at once.

        Raises:
            InputError: A reference lies outside of the event's store, or contradicts itself.
            StoreError: It cannot be read, or is not what its digest says.
        """
        if not event.references:
            return {}
        if event.answer is None:
            raise InputError("an event with references names no store", hint="name the store in `answer`")
        store = self.store(event.answer.store)
        wanted = [_wanted(reference, store, event.answer.store) for reference in event.references]
        read_objects(wanted)
        tensors = {
            name: array
            for reference, entry in zip(event.references, wanted, strict=True)
            for name, array in decode_parts(_header(reference), entry.buffer).items()
        }
        if len(tensors) < len(wanted) or not tensors.keys().isdisjoint(event.tensors):
            raise InputError("a tensor comes twice in an event", hint="give each tensor once")
        return tensors

    def put(self, outputs: dict[str, Array], place: AnswerPlace | None) -> tuple[Reference, ...]:
        """Write the largest of `outputs` to the store, until the others may go inline, and take them out.

        Raises:
            InputError: The event names a store that is not this function's.
            StoreError: The store cannot be written.
        """
        if place is None:
            return ()
        if not _PREFIX.fullmatch(place.prefix):
            raise InputError(
                f"an answer cannot go to `{place.prefix}`", hint="a request has a prefix as `requests/ID/` of its own"
            )
        buffers = {name: _bytes(name, array) for name, array in outputs.items()}
        positions = {name: position for position, name in enumerate(outputs)}
        inline_bytes = sum(map(len, buffers.values()))
        references = []
        for name, buffer in sorted(buffers.items(), key=lambda item: -len(item[1])):
            if inline_bytes <= place.inline_bytes:
                break
            uri = self.store(place.store).put(f"{place.prefix}{positions[name]}", buffer, lasting=False)
            references.append(_reference(name, outputs.pop(name), buffer, uri))
            inline_bytes -= len(buffer)
        return tuple(references)

    def store(self, uri: str) -> Store:
        """A store that may be used.

        Raises:
            InputError: It is not this function's.
        """
        if self._only not in (None, uri):
            raise InputError(f"an event names the store `{uri}`, which is not this function's", hint="deploy again")
        if uri not in self._opened:
            self._opened[uri] = open_store(uri)
        return self._opened[uri]


def _wanted(reference: Reference, store: Store, store_uri: str) -> Wanted:
    key = key_within(store_uri, reference.uri)
    if key is None:
        raise InputError(
            f"tensor `{reference.name}` refers to `{reference.uri}`, outside of the event's store `{store_uri}`",
            hint="write it to that store",
        )
    try:
        buffer = np.empty(reference.size, np.uint8).data
    except (MemoryError, ValueError) as error:
        raise InputError(
            f"tensor `{reference.name}` of {reference.size:,} bytes does not fit into memory", hint="see its reference"
        ) from error
    return Wanted(store, key, reference.uri, buffer, reference.sha256)


def _reference(name: str, array: Array, buffer: Buffer, uri: str) -> Reference:
    from hashlib import sha256  # which takes 5 ms to import, and most functions never need

    return Reference(name, datatype_of(array).name, array.shape, uri, len(buffer), sha256(buffer).hexdigest())


def _bytes(name: str, array: Array) -> Buffer:
    return encode({name: array}).buffers[0]


def _header(reference: Reference) -> bytes:
    """What stands in a frame's header for such a tensor."""
    entry = {
        "name": reference.name,
        "shape": reference.shape,
        "datatype": reference.datatype,
        "parameters": {"binary_data_size": reference.size},
    }
    return json.dumps({"inputs": [entry]}).encode()
