"""Errors as the user sees them."""

import pytest

from lamella.errors import LamellaError, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202egpj", r"\u202egpj"),
        ("\udc80", r"\udc80"),
        ("größe 量", "größe 量"),
    ],
)
def test_what_could_steer_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_the_middle_of_a_long_message_is_left_out() -> None:
    error = LamellaError(f"`{'a' * 10**7}` is made twice", hint="h" * 10**6)
    assert error.message.startswith("`aaa")
    assert error.message.endswith("aaa` is made twice")
    assert len(error.message) < 700
    assert len(error.hint or "") < 700
    assert str(error) == error.message
