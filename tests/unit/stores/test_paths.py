"""Keys become names that any file system can hold, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.stores.paths import TEMPORARY, key_of, names_of

texts = st.text(st.characters(exclude_categories=["Cs"]))
odd = st.one_of(
    texts,
    st.sampled_from(["", "%~", "%.", "%", "+", "\0"]),
    st.integers(200, 1000).map("x".__mul__),
    st.integers(80, 400).map("量".__mul__),
    texts.map(lambda text: f"%~{text}"),
)


@given(st.lists(odd, min_size=1).map("/".join))
def test_every_key_comes_back(key: str) -> None:
    names = names_of(key)
    assert key_of(names) == key
    for name in names:
        assert 0 < len(name.encode()) <= 255
        assert "\0" not in name
        assert "/" not in name
        assert not name.startswith(TEMPORARY)


@given(st.lists(odd, min_size=1).map("/".join), st.lists(odd, min_size=1).map("/".join))
def test_different_keys_have_different_names(first: str, second: str) -> None:
    assert (names_of(first) == names_of(second)) == (first == second)


@given(st.lists(odd, min_size=2))
def test_the_folders_of_a_key_are_those_of_its_beginning(segments: list[str]) -> None:
    above = names_of("/".join(segments[:-1]))
    assert names_of("/".join(segments))[: len(above)] == above


@pytest.mark.parametrize("key", ["a/b.txt", "größe/量", "100%.txt", "50%25", "a+b c", ".hidden", "x" * 255])
def test_ordinary_keys_are_their_own_names(key: str) -> None:
    assert names_of(key) == key.split("/")


@pytest.mark.parametrize(
    "names", [["%~zz"], ["%~61"], ["%~6"], ["%~ff"], ["%~61+"], ["%~61+", "a"], ["%.12"], ["\udc80"], ["%~41" * 60]]
)
def test_names_that_no_key_gives_are_known(names: list[str]) -> None:
    assert key_of(names) is None
