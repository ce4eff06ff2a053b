"""Asynchronous requests are answered once they are taken, whatever happens to the process."""

import os
import time
from pathlib import Path
from threading import Event

import pytest

from lamella.errors import RemoteError
from lamella.gateway.faults import status_of
from lamella.gateway.jobs import Jobs, TooManyRequestsError, UnknownRequestError
from lamella.runtime.message import Message


def echo(message: Message) -> Message:
    return Message({"status": 200, "of": message.head["model"]}, message.body[::-1])


def wait_for(jobs: Jobs, job: str) -> Message:
    deadline = time.monotonic() + 20
    while (found := jobs.result(job)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def test_a_result_is_there_later_and_after_a_restart(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, echo)
    job = jobs.submit(Message({"model": "m"}, b"ab\ncd"))
    assert wait_for(jobs, job) == Message({"status": 200, "of": "m"}, b"dc\nba")
    jobs.close()
    assert wait_for(Jobs(tmp_path, echo), job).body == b"dc\nba"


def test_what_was_taken_and_not_answered_is_resumed(tmp_path: Path) -> None:
    blocked = Event()

    def block(message: Message) -> Message:
        blocked.wait(20)
        raise SystemExit(message.body)  # as if the process had ended

    first = Jobs(tmp_path, block)
    job = first.submit(Message({"model": "m"}, b"ab"))
    second = Jobs(tmp_path, echo)
    assert second.result(job) is None
    second.resume()
    assert wait_for(second, job).body == b"ba"
    blocked.set()
    first.close()
    second.close()


def test_more_than_may_wait_are_refused(tmp_path: Path) -> None:
    go_on = Event()

    def wait(message: Message) -> Message:
        go_on.wait(20)
        return echo(message)

    jobs = Jobs(tmp_path, wait, most_waiting=2)
    taken = [jobs.submit(Message({"model": "m"}, b"")) for _ in range(2)]
    assert jobs.waiting == 2
    with pytest.raises(TooManyRequestsError, match="2 requests") as caught:
        jobs.submit(Message({"model": "m"}, b""))
    assert status_of(caught.value) == 503
    go_on.set()
    for job in taken:
        wait_for(jobs, job)
    jobs.close()
    assert jobs.waiting == 0


def test_what_cannot_be_kept_is_refused_and_takes_no_place(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("a file where the folder should be")
    jobs = Jobs(tmp_path / "jobs", echo, most_waiting=1)
    for _ in range(2):
        with pytest.raises(OSError, match=r"Not a directory|File exists"):
            jobs.submit(Message({"model": "m"}, b""))
    assert jobs.waiting == 0
    jobs.close()


def test_an_answer_that_cannot_be_kept_is_no_request_that_waits_for_ever(tmp_path: Path) -> None:
    def full(message: Message) -> Message:
        next(tmp_path.glob("*/request")).with_name(".result.partial").mkdir()  # nothing can be written there
        return echo(message)

    jobs = Jobs(tmp_path, full)
    job = jobs.submit(Message({"model": "m"}, b"ab"))
    with pytest.raises(RemoteError, match=f"`{job}` was answered, and the answer could not be kept: is a directory"):
        wait_for(jobs, job)
    jobs.close()
    (tmp_path / job / ".result.partial").rmdir()
    again = Jobs(tmp_path, echo)
    again.resume()
    assert wait_for(again, job).body == b"ba"
    again.close()


def test_a_request_that_comes_while_others_are_resumed_runs_once(tmp_path: Path) -> None:
    go_on, seen = Event(), []

    def wait(message: Message) -> Message:
        seen.append(message.body)
        go_on.wait(20)
        return echo(message)

    jobs = Jobs(tmp_path, wait)
    job = jobs.submit(Message({"model": "m"}, b"ab"))
    jobs.resume()
    go_on.set()
    wait_for(jobs, job)
    jobs.close()
    assert seen == [b"ab"]


def test_results_that_vanish_meanwhile_are_no_defect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(tmp_path, echo, kept_s=0)
    (tmp_path / ("1" * 32)).mkdir()
    gone = tmp_path / ("1" * 32) / "result"  # listed, and removed by another thread before it is looked at
    monkeypatch.setattr(Path, "glob", lambda *_: iter([gone]))
    jobs.expire()
    jobs.forget(lambda _: True)
    jobs.close()


def test_results_expire_and_requests_do_not(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, echo, kept_s=60)
    old, new = (jobs.submit(Message({"model": "m"}, b"")) for _ in range(2))
    for job in (old, new):
        wait_for(jobs, job)
    jobs.close()
    long_ago = time.time() - 61
    os.utime(tmp_path / old / "result", (long_ago, long_ago))
    waiting = tmp_path / ("0" * 32)
    waiting.mkdir()
    (waiting / "request").write_bytes(Message({"model": "m"}, b"").to_bytes())
    os.utime(waiting / "request", (long_ago, long_ago))
    jobs.expire()
    with pytest.raises(UnknownRequestError, match=old) as caught:
        jobs.result(old)
    assert caught.value.hint == "results are kept for 1 minutes"
    assert jobs.result(new) is not None
    assert jobs.result(waiting.name) is None
    jobs.forget(lambda head: head["model"] == "m")
    with pytest.raises(UnknownRequestError):
        jobs.result(new)


@pytest.mark.parametrize("job", ["", ".", "..", "../x", "0" * 32, "x" * 32])
def test_an_id_that_there_is_not_leads_nowhere(tmp_path: Path, job: str) -> None:
    (tmp_path / "request").touch()
    with pytest.raises(UnknownRequestError):
        Jobs(tmp_path / "jobs", echo).result(job)
