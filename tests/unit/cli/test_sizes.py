"""Sizes and counts that flags take."""

import pytest

from lamella.cli.sizes import parse_size, parse_slices
from lamella.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MB", 512_000_000),
        ("2GB", 2_000_000_000),
        ("512MiB", 536_870_912),
        ("1.5GiB", 1_610_612_736),
        ("0.1MB", 100_000),
        ("64 kib", 65_536),
        ("1tb", 10**12),
    ],
)
def test_decimal_units_are_powers_of_1000_and_binary_ones_of_1024(text: str, size: int) -> None:
    assert parse_size(text, flag="--max-memory") == size


@pytest.mark.parametrize("text", ["512", "", "MB", "-1MB", "0MB", "1,5GB", "1e3MB", "5 parsecs", "0.1B", "\u0663MB"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="`--max-memory` takes a size") as caught:
        parse_size(text, flag="--max-memory")
    assert "1.5GiB" in (caught.value.hint or "")


def test_slices_are_a_number_or_max() -> None:
    assert parse_slices("4") == 4
    assert parse_slices("max") == "max"


@pytest.mark.parametrize("text", ["0", "-1", "4.5", "MAX", "", "four", "9999999999"])
def test_what_is_no_number_of_slices_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="`--slices` takes a number"):
        parse_slices(text)
