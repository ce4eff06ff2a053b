import pytest

from lamella.targets.local.invocation import RefusedError
from lamella.targets.local.names import split_name

ARN = "arn:aws:lambda:eu-central-1:123456789012:function"


@pytest.mark.parametrize(
    ("text", "qualifier", "found"),
    [
        ("bert", None, ("bert", None)),
        ("bert", "live", ("bert", "live")),
        ("bert:3", None, ("bert", "3")),
        ("bert:$LATEST", None, ("bert", "$LATEST")),
        ("bert:3", "3", ("bert", "3")),
        (f"{ARN}:bert", None, ("bert", None)),
        (f"{ARN}:bert:live", None, ("bert", "live")),
        ("arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:bert", "1", ("bert", "1")),
        ("123456789012:function:bert", None, ("bert", None)),
        ("123456789012:bert", None, ("bert", None)),
        ("function:bert:1", None, ("bert", "1")),
    ],
)
def test_every_form_of_a_name(text: str, qualifier: str | None, found: tuple[str, str | None]) -> None:
    assert split_name(text, qualifier) == found


@pytest.mark.parametrize(
    "text", ["", "a b", "../etc", "bert:", "bert:$OLDEST", "a" * 141, "arn:aws:s3:::bert", "b:c:d:e"]
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(RefusedError, match="is no function name") as refused:
        split_name(text)
    assert refused.value.status == 400


def test_two_qualifiers() -> None:
    with pytest.raises(RefusedError, match="does not match the specified qualifier"):
        split_name("bert:1", "2")
