"""What settings contradict is found before anything is asked of AWS."""

from dataclasses import replace
from typing import Any

import pytest
from tests.aws_stacks import DELIVERIES, DOORS, chain, release, settings, side_by_side

from lamella.errors import UsageError
from lamella.targets.aws.checks import check_release
from lamella.targets.aws.release import HANDLER
from lamella.targets.aws.settings import Budget, HttpApi, ObjectEvents

MOUNT = {"delivery": "mount", "mount": "efs"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"region": "mars"}, "`mars` is no region"),
    ({"architecture": "sparc"}, "no architecture `sparc`"),
    ({"delivery": "post"}, "no delivery `post`"),
    ({"workflow": "fast"}, "no workflow `fast`"),
    ({"delivery": "mount"}, "needs a kind of file system"),
    ({"mount": "efs"}, "has no use for a file system"),
    ({**MOUNT, "mount": "nfs"}, "no kind of mount `nfs`"),
    ({**MOUNT, "workflow": "direct"}, "cannot invoke the next one"),
    ({"base_image": "public.ecr.aws/lambda/python:3.13"}, "a base image needs images, and delivery `package` has none"),
    ({"delivery": "image", "base_image": "none"}, "cannot run on AWS"),
    ({"delivery": "image", "base_image": "No Image"}, "names no image"),
    ({"snap_start": True, "provisioned_concurrency": 1}, "SnapStart does not go with provisioned concurrency"),
    ({"snap_start": True, **MOUNT}, "SnapStart does not go with the mount `efs`"),
    ({"snap_start": True, "delivery": "mount", "mount": "s3-files"}, "SnapStart does not go with the mount `s3-files`"),
    ({"snap_start": True, "temporary_mb": 513}, "SnapStart does not go with 513 MB of temporary storage"),
    ({"snap_start": True, "python": "3.11"}, "SnapStart does not go with Python 3.11"),
    ({"snap_start": True, "python": "new"}, "`new` is no version of Python"),
    ({"temporary_mb": 511}, "511 is out of range"),
    ({"temporary_mb": 10_241}, "10241 is out of range"),
    ({"concurrency": 0}, "lets no request run"),
    ({"provisioned_concurrency": -1}, "makes no sense"),
    ({"concurrency": 3, "provisioned_concurrency": 4}, "above the concurrency of 3"),
    ({"http_api": HttpApi("jwt", None, ("me",))}, "needs the issuer"),
    ({"http_api": HttpApi("jwt", "http://plain.example", ("me",))}, "needs the issuer"),
    ({"http_api": HttpApi("jwt", "https://issuer.example")}, "needs an audience"),
    ({"http_api": HttpApi("iam", "https://issuer.example")}, "mean something with `jwt` only"),
    ({"http_api": HttpApi("none")}, "no authorization `none`"),  # type: ignore[arg-type]
    ({"s3_events": ObjectEvents(batch_size=11)}, "a batch of 11 objects needs a window"),
    ({"s3_events": ObjectEvents(batch_size=10_001, window_s=1)}, "10001 is out of range"),
    ({"s3_events": ObjectEvents(window_s=301)}, "301 is out of range"),
    ({"s3_events": ObjectEvents(inputs="inbox")}, "`inbox` is no prefix"),
    ({"s3_events": ObjectEvents(inputs="requests/mine/")}, "overlaps with Lamella's own `requests/`"),
    ({"s3_events": ObjectEvents(inputs="a/", results="a/b/")}, "would be requests under `a/` again"),
    ({"keep_warm_minutes": 0}, "0 is out of range"),
    ({"log_retention_days": 15}, "cannot be kept for 15 days"),
    ({"budget": Budget(0, "me@example.com")}, "a budget of 0 USD"),
    ({"budget": Budget(5, "me")}, "somebody to tell"),
    ({"tags": {"aws:mine": "x"}}, "is not yours to set"),
    ({"tags": {"team": "a|b"}}, "is no tag"),
    ({"tags": {str(index): "x" for index in range(46)}}, "46 tags are too many"),
]


@pytest.mark.parametrize(("chosen", "text"), WRONG, ids=[text for _, text in WRONG])
def test_a_contradiction_is_refused_with_a_way_out(chosen: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as refused:
        settings(**chosen).check()
    assert text in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_what_goes_together_is_not_refused(delivery: str) -> None:
    settings(**DELIVERIES[delivery], **DOORS, tags={"team": "vision"}).check()
    settings(**{**DELIVERIES[delivery], **DOORS, "http_api": HttpApi("jwt", "https://a.example", ("b",))}).check()


def test_snap_start_goes_with_images() -> None:
    settings(snap_start=True, delivery="image").check()


def test_slices_side_by_side_cannot_invoke_each_other_directly() -> None:
    chosen = settings(workflow="direct")
    check_release(chosen, release(chosen, chain(3)))
    with pytest.raises(UsageError, match="run side by side"):
        check_release(chosen, release(chosen, side_by_side()))


def test_several_slices_are_not_single() -> None:
    chosen = settings(workflow="single")
    check_release(chosen, release(chosen, chain(1)))
    with pytest.raises(UsageError, match="has 2 slices"):
        check_release(chosen, release(chosen, chain(2)))


def test_an_express_workflow_is_not_asked_to_outlive_itself() -> None:
    check_release(settings(), release(settings(), chain(2), timeout_s=300))
    with pytest.raises(UsageError, match="may take 301 s"):
        check_release(settings(), release(settings(), chain(2), timeout_s=301))
    chosen = settings(workflow="standard")
    check_release(chosen, release(chosen, chain(2), timeout_s=900))


def test_a_front_door_needs_a_function_behind_it() -> None:
    chosen = settings(**DOORS)
    for slices, said in ((2, "a door of their own"), (1, "a front door needs")):
        found = release(chosen, chain(slices))
        check_release(chosen, found)
        slices_alone = tuple(replace(each, handler=HANDLER) for each in found.functions if not each.is_door)
        with pytest.raises(UsageError, match=said):
            check_release(chosen, replace(found, functions=slices_alone))


def test_a_single_slice_on_a_mount_is_no_door() -> None:
    chosen = settings(**DELIVERIES["efs"], **DOORS)
    found = release(chosen, chain(1))
    check_release(chosen, found)
    with pytest.raises(UsageError, match="a door of their own"):
        check_release(chosen, replace(found, functions=found.functions[:1]))
