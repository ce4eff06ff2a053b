"""What travels: requests, responses, and the values between slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from lamella.checking.measuring import Measurement, encoded_bytes, frame_bytes
from lamella.checking.report import Check
from lamella.checking.setting import Setting
from lamella.checking.subject import Subject, Subjects
from lamella.errors import LamellaError
from lamella.graph.samples import evaluate
from lamella.tensors import Array


def payload_checks(setting: Setting, subjects: Subjects, measurement: Measurement) -> Iterator[Check]:
    """Payloads of a request and its response, as base64 in JSON, and of the hops between slices."""
    request = _bytes(measurement.inputs, response=False)
    response, measured = _response_bytes(subjects, measurement)
    rows = f"for a batch of {setting.batch}"
    fewer = "send fewer rows at a time" if setting.batch > 1 else "send smaller inputs"
    reference = "or a reference to an object in the object store"
    yield setting.against(
        "request_bytes", "request, encoded", request, origin="counted", hint=f"{fewer}, {reference}", detail=rows
    )
    yield setting.against(
        "response_bytes",
        "response, encoded",
        response,
        origin="measured" if measured else "estimated",
        hint=f"ask for fewer outputs or rows at a time, {reference}",
        detail=rows,
    )
    yield setting.against(
        "async_request_bytes",
        "asynchronous request, encoded",
        request,
        above="warning",
        hint="an asynchronous request has to name an object in the object store",
        detail=rows,
    )
    if subjects.is_whole:
        yield from _possible_hops(setting, subjects)
    else:
        yield from _hops(setting, subjects)


def _bytes(tensors: Mapping[str, Array] | None, *, response: bool) -> int | None:
    if tensors is None:
        return None
    try:
        return frame_bytes(tensors, response=response)
    except LamellaError:  # a tensor of less than 8 bits an element, which does not travel
        return None


def _response_bytes(subjects: Subjects, measurement: Measurement) -> tuple[int | None, bool]:
    """Bytes of a response, and whether they come from a run."""
    tensors = {name: array for name, array in measurement.outputs.items() if array is not None}
    if tensors and len(tensors) == len(subjects.outputs):
        return _bytes(tensors, response=True), True
    sizes = [_size(part, name) for part in subjects.parts for name in subjects.outputs if name in part.values[1]]
    known = [size for size in sizes if size is not None]
    if len(known) < len(subjects.outputs):
        return None, False
    return encoded_bytes(sum(known)), False


def _size(part: Subject, name: str) -> int | None:
    """Bytes of a value; None where its shape is not known."""
    kind = part.values[1][name].type
    if kind is None or kind.shape is None or any(evaluate(dim, part.all_dims) is None for dim in kind.shape):
        return None
    return part.values[0].get(name)


def _possible_hops(setting: Setting, subjects: Subjects) -> Iterator[Check]:
    """The values that would cross each cut that is possible: the payload that a slice would hand on."""
    cuts = subjects.parts[0].cuts
    crossing = [encoded_bytes(cuts.crossing[position]) for position in cuts.positions]
    if not crossing:
        return
    allowed = setting.limits.workflow_payload_bytes
    small = len(crossing) if allowed is None else sum(size <= allowed for size in crossing)
    detail = f"the largest of {len(crossing):,} possible cuts; the smallest takes {min(crossing):,} bytes"
    if allowed is not None and small < len(crossing):
        detail += f"; {small:,} pass within the payload, the values of the others go through the object store"
    yield setting.against(
        "workflow_payload_bytes",
        "hop, encoded",
        max(crossing),
        origin="estimated",
        above="ok",
        detail=detail,
    )


def _hops(setting: Setting, subjects: Subjects) -> Iterator[Check]:
    """What each cut of a slices directory hands on, with the rows that were asked for.

    The function that makes a tensor decides by its raw bytes whether that travels in the request.
    """
    inline_bytes = setting.platform.speeds.inline_bytes
    for index, sizes in enumerate(_crossing(subjects)):
        stored = [size for size in sizes if size > inline_bytes]
        detail = "bytes alive across the cut"
        if stored:
            detail += f"; {sum(stored):,} of them, raw, in tensors of more than {inline_bytes:,} bytes"
        hint = "these values go through the object store, which adds its latency to each request"
        found = setting.against(
            "workflow_payload_bytes",
            f"hop from slice {index}, encoded",
            encoded_bytes(sum(sizes)),
            origin="estimated",
            above="warning",
            hint=hint,
            detail=detail,
        )
        yield replace(found, verdict="warning", hint=hint) if stored and found.verdict == "ok" else found


def _crossing(subjects: Subjects) -> Iterator[list[int]]:
    """Bytes of each value that is made in front of a cut and taken behind it; for every cut."""
    parts = subjects.parts
    made: dict[str, int] = {}
    for index, part in enumerate(parts[:-1]):
        graph, sizes = part.model.graph, part.values[0]
        made.update((value.name, sizes.get(value.name, 0)) for value in graph.outputs)
        wanted = {value.name for later in parts[index + 1 :] for value in later.model.graph.required_inputs}
        yield [size for name, size in made.items() if name in wanted]
