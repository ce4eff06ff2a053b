"""Exceptions as error lines."""

import errno

import pytest

from lamella.cli.failures import Failure, failure_of, unknown_verb
from lamella.errors import EngineError, InputError


def test_own_errors_keep_message_hint_and_exit_status() -> None:
    assert failure_of(InputError("bad", hint="good")) == Failure("bad", "good", 2)
    assert failure_of(EngineError("refused")) == Failure("refused", None, 1)


def test_full_disk_names_the_file_and_is_no_usage_error() -> None:
    found = failure_of(OSError(errno.ENOSPC, "No space left on device", "/data/slice_000.data"))
    assert found == Failure(
        "`/data/slice_000.data`: no space left on device", "free some space, or choose an output on another disk", 1
    )


def test_missing_permission_is_a_usage_error() -> None:
    found = failure_of(PermissionError(errno.EACCES, "Permission denied", "plan.json"))
    assert found == Failure("`plan.json`: permission denied", "check the path and its permissions", 2)


def test_out_of_memory_has_a_way_out() -> None:
    found = failure_of(MemoryError())
    assert found is not None
    assert found.message == "out of memory"
    assert "--low-memory" in (found.hint or "")
    assert found.exit_status == 1


@pytest.mark.parametrize("error", [KeyError("x"), AssertionError(), OSError("no errno"), ValueError("boom")])
def test_defects_keep_their_traceback(error: Exception) -> None:
    assert failure_of(error) is None


def test_unknown_verb_suggests_a_close_one_or_lists_all() -> None:
    assert unknown_verb("pan", ["plan", "run"]).hint == "did you mean `lamella plan`?"
    assert unknown_verb("xyz", ["plan", "run"]).hint == "the verbs are `plan`, `run`"


def test_unknown_verb_of_a_verb_is_named_with_it() -> None:
    found = unknown_verb("ad", ["add", "list"], "trigger ")
    assert found == Failure("there is no verb `trigger ad`", "did you mean `lamella trigger add`?", 2)
    assert unknown_verb("xyz", ["add", "list"], "trigger ").hint == "the verbs are `trigger add`, `trigger list`"
