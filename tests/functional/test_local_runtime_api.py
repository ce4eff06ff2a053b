"""The Runtime API of the local platform, asked by what is no well-behaved runtime."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lamella.errors import MissingDependencyError
from lamella.targets.local.runtime_api import Answer, Event, RuntimeApi
from lamella.targets.local.serving import require_aiohttp

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")

Ask = Callable[..., Awaitable[tuple[int, Any, bytes]]]


def run(work: Callable[[RuntimeApi, Ask], Awaitable[None]]) -> list[object]:
    """Run `work` with an API and a way to ask it; what the API has told its owner."""
    told: list[object] = []

    async def main() -> None:
        api = RuntimeApi(
            response_limit_bytes=1000,
            on_ready=lambda: told.append("ready"),
            on_init_error=told.append,
            on_answer=told.append,
        )
        await api.open()
        async with aiohttp.ClientSession(f"http://{api.address}") as session:

            async def ask(method: str, path: str, **more: Any) -> tuple[int, Any, bytes]:
                async with session.request(method, f"/2018-06-01/runtime/{path}", **more) as response:
                    return response.status, response.headers, await response.read()

            try:
                await work(api, ask)
            finally:
                await api.close()

    asyncio.run(asyncio.wait_for(main(), 20))
    return told


def event(name: str) -> Event:
    return Event(name, b'{"n": 1}', {"Lambda-Runtime-Aws-Request-Id": name, "Lambda-Runtime-Deadline-Ms": "5"})


def test_events_are_handed_out_and_answered_one_by_one() -> None:
    async def work(api: RuntimeApi, ask: Ask) -> None:
        asking = asyncio.create_task(ask("GET", "invocation/next"))
        while not api.waiting:
            await asyncio.sleep(0.001)
        api.hand(event("one"))
        status, headers, body = await asking
        assert (status, headers["Lambda-Runtime-Aws-Request-Id"], body) == (200, "one", b'{"n": 1}')
        assert not api.waiting
        assert (await ask("POST", "invocation/one/response", data=b"answer"))[0] == 202
        api.hand(event("two"))  # before it asks
        assert (await ask("GET", "invocation/next"))[2] == b'{"n": 1}'
        failure = json.dumps({"errorType": "ValueError", "errorMessage": "no"}).encode()
        assert (await ask("POST", "invocation/two/error", data=failure))[0] == 202

    ready, answered, failed = run(work)
    assert (ready, answered) == ("ready", Answer(b"answer"))
    assert isinstance(failed, Answer)
    assert failed.error_type == "ValueError"


def test_what_is_out_of_turn_is_refused() -> None:
    async def work(api: RuntimeApi, ask: Ask) -> None:
        assert (await ask("POST", "invocation/none/response", data=b"1"))[0] == 400
        api.hand(event("one"))
        assert (await ask("POST", "invocation/one/response", data=b"too early"))[0] == 400
        assert (await ask("GET", "invocation/next"))[0] == 200
        status, _, body = await ask("GET", "invocation/next")
        assert (status, json.loads(body)["errorType"]) == (403, "InvalidStateTransition")
        status, _, body = await ask("POST", "invocation/other/response", data=b"1")
        assert (status, json.loads(body)["errorType"]) == (400, "InvalidRequestID")
        assert (await ask("POST", "init/error", data=b"{}"))[0] == 403
        assert (await ask("POST", "invocation/one/response", data=b"once"))[0] == 202
        assert (await ask("POST", "invocation/one/response", data=b"twice"))[0] == 400
        assert (await ask("DELETE", "invocation/next"))[0] == 405
        assert (await ask("GET", "../../etc/passwd"))[0] == 404
        assert (await ask("POST", "invocation/one"))[0] == 404

    assert run(work) == ["ready", Answer(b"once")]


@pytest.mark.parametrize("headers", [{"Origin": "https://example.com"}, {"Host": "example.com"}])
def test_web_pages_get_no_events_and_give_no_answers(headers: dict[str, str]) -> None:
    async def work(api: RuntimeApi, ask: Ask) -> None:
        api.hand(event("one"))
        assert (await ask("GET", "invocation/next", headers=headers))[0] == 403
        assert (await ask("GET", "invocation/next"))[0] == 200
        assert (await ask("POST", "invocation/one/response", data=b"forged", headers=headers))[0] == 403
        assert (await ask("POST", "invocation/one/response", data=b"right"))[0] == 202

    assert run(work) == ["ready", Answer(b"right")]


def test_an_answer_that_is_too_large_is_counted_and_not_kept() -> None:
    async def work(api: RuntimeApi, ask: Ask) -> None:
        for name, body in (("sized", b"x" * 1001), ("chunked", b"x" * 5000)):
            api.hand(event(name))
            await ask("GET", "invocation/next")

            async def chunks(body: bytes = body) -> Any:
                yield body

            data = body if name == "sized" else chunks()
            status, _, answer = await ask("POST", f"invocation/{name}/response", data=data)
            assert (status, json.loads(answer)["errorType"]) == (413, "RequestEntityTooLarge")

    assert run(work) == [
        "ready",
        Answer(b"", "Function.ResponseSizeTooLarge", 1001),
        Answer(b"", "Function.ResponseSizeTooLarge", 1001),
    ]


@pytest.mark.parametrize(
    ("body", "headers", "kind"),
    [
        (b'{"errorType": "ImportError"}', {}, "ImportError"),
        (b"{}", {"Lambda-Runtime-Function-Error-Type": "Runtime.X"}, "Runtime.X"),
        (b"[]", {}, "Unknown"),
        (b"no JSON", {}, "Unknown"),
    ],
)
def test_a_start_that_fails_has_a_kind(body: bytes, headers: dict[str, str], kind: str) -> None:
    async def work(_: RuntimeApi, ask: Ask) -> None:
        assert (await ask("POST", "init/error", data=body, headers=headers))[0] == 202

    assert run(work) == [Answer(body, kind)]


def test_without_aiohttp_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingDependencyError, match="needs `aiohttp`") as missing:
        require_aiohttp()
    assert missing.value.hint == "pip install 'lamella[local]'"
