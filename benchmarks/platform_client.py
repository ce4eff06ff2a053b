"""A client of the local platform in a process of its own, as clients are.

    echo '{"way": "http", "url": "http://127.0.0.1:9001", "function": ..., ...}' | python benchmarks/platform_client.py

It sends requests one after the other over connections that it keeps, and prints what each took as JSON. With `way`
`boto3` it is that library's client as it comes, with nothing set but where the endpoint is.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import TypedDict
from urllib.parse import urlsplit


class Settings(TypedDict, total=False):
    """What a client is told.

    Attributes:
        way: `http` or `boto3`.
        url: The platform's.
        function: The function to invoke.
        payload: The event in base64.
        requests: How many of them, with `pause_s`, two bounds in seconds, before each.
        clients: Instead of that, as many threads at once, each with a connection of its own, for `seconds`.
    """

    way: str
    url: str
    function: str
    payload: str
    requests: int
    pause_s: tuple[float, float]
    clients: int
    seconds: float


class Result(TypedDict):
    """What a client reports.

    Attributes:
        request_ms: Of each request.
        seconds: From the first request to the last answer.
    """

    request_ms: list[float]
    seconds: float


Ask = Callable[[], None]


def http_way(settings: Settings) -> Ask:
    """A request over a kept connection."""
    place = urlsplit(settings["url"])
    connection = http.client.HTTPConnection(place.hostname or "", place.port)
    path = f"/2015-03-31/functions/{settings['function']}/invocations"
    payload = base64.b64decode(settings["payload"])

    def ask() -> None:
        connection.request("POST", path, payload)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200 or answer.headers["X-Amz-Function-Error"]:
            raise RuntimeError(f"{answer.status}: {content[:300]!r}")

    return ask


def boto3_way(settings: Settings) -> Ask:
    """A request by an unmodified client."""
    import boto3

    client = boto3.client(
        "lambda",
        endpoint_url=settings["url"],
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    payload = base64.b64decode(settings["payload"])

    def ask() -> None:
        answer = client.invoke(FunctionName=settings["function"], Payload=payload)
        content = answer["Payload"].read()
        if answer["StatusCode"] != 200 or "FunctionError" in answer:
            raise RuntimeError(f"{answer['StatusCode']}: {content[:300]!r}")

    return ask


WAYS: dict[str, Callable[[Settings], Ask]] = {"http": http_way, "boto3": boto3_way}


def one_after_the_other(ask: Ask, requests: int, pause_s: tuple[float, float]) -> Result:
    """So many requests, with pauses between two bounds in seconds."""
    pauses, request_ms = random.Random(requests), []
    for _ in range(3):
        ask()
    first = time.perf_counter()
    for _ in range(requests):
        time.sleep(pauses.uniform(*pause_s)) if pause_s[1] else None
        began = time.perf_counter()
        ask()
        request_ms.append(1000 * (time.perf_counter() - began))
    return {"request_ms": request_ms, "seconds": time.perf_counter() - first}


def side_by_side(make: Callable[[], Ask], clients: int, seconds: float) -> Result:
    """As many requests as `clients` get answered in a time."""
    request_ms: list[float] = []
    together = threading.Barrier(clients + 1)
    failures: list[BaseException] = []

    def run(ask: Ask) -> None:
        try:
            ask()
            together.wait()
            ends = time.perf_counter() + seconds
            while (began := time.perf_counter()) < ends:
                ask()
                request_ms.append(1000 * (time.perf_counter() - began))
        except BaseException as error:
            failures.append(error)
            together.abort()
            raise

    threads = [threading.Thread(target=run, args=(make(),)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    together.wait()
    first = time.perf_counter()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return {"request_ms": request_ms, "seconds": time.perf_counter() - first}


def main(settings: Settings) -> None:
    """Send the requests, and print what they took."""
    make = WAYS[settings["way"]]
    if "clients" in settings:
        result = side_by_side(lambda: make(settings), settings["clients"], settings["seconds"])
    else:
        result = one_after_the_other(make(settings), settings["requests"], settings["pause_s"])
    json.dump({**result, "request_ms": [round(ms, 3) for ms in result["request_ms"]]}, sys.stdout)


if __name__ == "__main__":
    main(json.load(sys.stdin))
