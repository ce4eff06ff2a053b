import pytest

from lamella.errors import UsageError
from lamella.targets.local.admission import Admission
from lamella.targets.local.invocation import RefusedError


def test_functions_share_what_others_have_not_reserved() -> None:
    admission = Admission(concurrency=5, burst=None, clock=lambda: 0.0)
    admission.reserve("reserved", 2)
    for _ in range(3):
        admission.enter("shared")
    with pytest.raises(RefusedError) as refused:
        admission.enter("other")
    assert (refused.value.status, refused.value.reason) == (429, "ConcurrentInvocationLimitExceeded")
    admission.enter("reserved")
    admission.enter("reserved")
    with pytest.raises(RefusedError) as refused:
        admission.enter("reserved")
    assert refused.value.reason == "ReservedFunctionConcurrentInvocationLimitExceeded"
    admission.leave("shared")
    admission.enter("other")
    admission.forget("reserved")
    with pytest.raises(RefusedError):
        admission.enter("reserved")  # two still run, and now they are among the five


def test_instances_start_at_a_limited_rate_for_each_function() -> None:
    now = 0.0
    admission = Admission(concurrency=100, burst=2, clock=lambda: now)
    admission.start("one")
    now = 9.0
    admission.start("one")
    admission.start("two")
    with pytest.raises(RefusedError):
        admission.start("one")
    now = 10.0
    admission.start("one")
    with pytest.raises(RefusedError):
        admission.start("one")


def test_no_more_is_reserved_than_there_is() -> None:
    admission = Admission(concurrency=5, burst=None, clock=lambda: 0.0)
    admission.reserve("one", 3)
    with pytest.raises(UsageError, match="cannot reserve 3 of 5") as refused:
        admission.reserve("two", 3)
    assert refused.value.hint == "others have reserved theirs: 2 are left"
    admission.reserve("two", 2)
    admission.reserve("one", 2)
    admission.reserve("two", 3)
