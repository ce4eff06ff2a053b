"""No result may become a request again."""

from pathlib import Path

import pytest

from lamella.errors import UsageError
from lamella.gateway.events.loops import check_loops, place_of
from lamella.gateway.events.trigger import Trigger


def trigger(input: str | Path, output: str | Path, *, name: str = "a@dev", dead: str | Path | None = None) -> Trigger:
    return Trigger(name, str(input), str(output), dead_letter=None if dead is None else str(dead))


def assert_refused(*given: Trigger, match: str = "overlap", state: Path | None = None) -> None:
    first, *others = given
    with pytest.raises(UsageError, match=match) as caught:
        check_loops(first, others, state=state)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("input", "output"),
    [
        ("in", "in"),
        ("in", "in/out"),
        ("in/deeper", "in"),
        ("in", "other/../in"),
        ("in", "link"),
        ("in", "link/out"),
        ("link/in", "in"),
        ("in", "dangling"),
        ("in", "dangling/out"),
    ],
)
def test_folders_inside_each_other_are_refused(input: str, output: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    (tmp_path / "dangling").symlink_to(tmp_path / "in" / "later")
    assert_refused(trigger(tmp_path / input, tmp_path / output))
    assert_refused(trigger(tmp_path / input, tmp_path / "else", dead=tmp_path / output))


@pytest.mark.parametrize("output", ["out", "in2", "in.txt", "i"])
def test_folders_beside_each_other_are_fine(output: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    check_loops(trigger(tmp_path / "in", tmp_path / output, dead=tmp_path / "dead"), state=tmp_path / "state")


@pytest.mark.parametrize(
    ("input", "output", "overlaps"),
    [
        ("s3://b", "s3://b/out", True),
        ("s3://b/in", "s3://b/in", True),
        ("s3://b/in/", "s3://b/in/deep/er", True),
        ("s3://b/in", "s3://b", True),
        ("s3://b/a%20b", "s3://b/a b/c", True),
        ("s3://b/in?endpoint_url=http%3A//localhost:9000", "s3://b/in?endpoint_url=http%3A//127.0.0.1:9000", True),
        ("s3://b/in", "s3://b/in2", False),
        ("s3://b/in", "s3://b/out/in", False),
        ("s3://b/in", "s3://c/in", False),
        ("s3://b", "/b", False),
        ("s3://b", "https://b.example.org/b", False),
    ],
)
def test_prefixes_of_a_bucket(input: str, output: str, overlaps: bool) -> None:
    if overlaps:
        assert_refused(trigger(input, output))
    else:
        check_loops(trigger(input, output))


def test_a_database_in_the_input_is_refused(tmp_path: Path) -> None:
    assert_refused(trigger(tmp_path, f"sqlite://{tmp_path}/results.db?table=t"))
    assert_refused(trigger(tmp_path, f"sqlite:///{tmp_path}/results.db"))
    check_loops(trigger(tmp_path / "in", f"sqlite://{tmp_path}/results.db?table=t"))


def test_lamellas_own_files_are_not_watched(tmp_path: Path) -> None:
    given = trigger(tmp_path, "/elsewhere")
    assert_refused(given, state=tmp_path / "deployments" / "a@dev", match="own files")


def test_what_another_deployment_gives_counts_as_output(tmp_path: Path) -> None:
    assert_refused(trigger(tmp_path, f"deployment://b?output={tmp_path}/out"))
    check_loops(trigger(tmp_path / "in", f"deployment://b?output={tmp_path}/out"))


@pytest.mark.parametrize(
    "output",
    [
        "deployment://a?output=/out",
        "deployment://a@dev?output=/out",
        "deployment://b?output=deployment://a?output=/out",
        "deployment://b?output=deployment://b@dev?output=/out",
    ],
)
def test_a_deployment_that_would_get_its_own_results_is_refused(output: str) -> None:
    assert_refused(trigger("/in", output), match="its own results")


def test_other_stages_are_other_deployments() -> None:
    check_loops(trigger("/in", "deployment://a@prod?output=/out"))


def test_triggers_that_feed_each_other_are_refused(tmp_path: Path) -> None:
    x, y, z = (tmp_path / name for name in "xyz")
    first, second, third = trigger(x, y), trigger(y, z, name="b@dev"), trigger(z / "deep", x, name="c@dev")
    check_loops(second, [first])
    check_loops(first, [second, trigger(z, tmp_path / "end")])
    assert_refused(third, first, second, match="comes back")
    assert_refused(trigger(y, x), first, match="comes back")
    assert_refused(trigger(z, tmp_path / "end", dead=x), first, second, match="comes back")
    check_loops(
        trigger(tmp_path / "new", tmp_path / "end"), [first, second, third]
    )  # a circle that was there is not its


def test_two_triggers_do_not_write_objects_to_one_place(tmp_path: Path) -> None:
    out, dead = tmp_path / "out", tmp_path / "dead"
    first = trigger("/in", out, dead=dead)
    (tmp_path / "link").symlink_to(out)
    assert_refused(trigger("/other", tmp_path / "link", name="b@dev"), first, match="each other's place")
    assert_refused(trigger("/other", f"deployment://b?output={out}", name="c@dev"), first, match="each other's place")
    assert_refused(trigger("/other", out / "below", dead=dead), first, match="dead-letter place")
    assert_refused(
        trigger("/in", "s3://b/out/"), trigger("/in", "s3://b/out", name="b@dev"), match="each other's place"
    )
    check_loops(trigger("/in", out / "below", dead=dead / "below"), [first])
    rows = f"sqlite://{tmp_path}/results.db"
    check_loops(trigger("/in", rows), [trigger("/in", rows, name="b@dev")])


def test_only_stores_can_be_watched() -> None:
    assert_refused(trigger("https://example.org", "/out"), match="watched")
    assert place_of("https://example.org") is None
