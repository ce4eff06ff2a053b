"""Names on AWS: no longer than allowed, and never the same for two things."""

import re

from hypothesis import given
from hypothesis import strategies as st

from lamella.targets.aws.naming import Names, logical_id, shortened

WORD = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
LONG = Names("a" * 32, "b" * 32, "ap-southeast-2", "123456789012")


@given(WORD, WORD, st.integers(0, 999), WORD)
def test_every_name_is_one_that_aws_takes(name: str, stage: str, slice: int, model: str) -> None:
    names = Names(name, stage, "ap-southeast-2", "123456789012")
    function = names.function(f"{names.base}-{model}-slice-{slice}")
    assert re.fullmatch(r"[a-zA-Z0-9-_]{1,64}", function)
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", str(names.bucket))
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", names.state_machine(model))
    assert re.fullmatch(r"[\w+=,.@-]{1,64}", names.role(function))
    assert re.fullmatch(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*", names.repository)
    assert re.fullmatch(r"[a-zA-Z][-a-zA-Z0-9]{0,127}", names.stack)
    assert re.fullmatch(r"[A-Za-z0-9]{1,255}", logical_id("Function", function))


@given(st.lists(WORD, min_size=2, max_size=20, unique=True))
def test_two_names_are_never_one(words: list[str]) -> None:
    assert len({shortened(f"lamella-{'x' * 60}-{word}", 64) for word in words}) == len(words)
    assert len({logical_id("Function", word) for word in words}) == len(words)


def test_a_bucket_is_another_in_another_account_or_region() -> None:
    places = [("123456789012", "eu-central-1"), ("123456789012", "us-east-1"), ("210987654321", "us-east-1")]
    assert len({str(Names("bert", "dev", region, account).bucket) for account, region in places}) == len(places)


def test_a_bucket_in_an_unknown_account_leaves_room_for_it() -> None:
    bucket = Names(LONG.name, LONG.stage, LONG.region).bucket
    assert isinstance(bucket, dict)
    text = str(bucket["Fn::Sub"]).replace("${AWS::AccountId}", "1" * 12).replace("${AWS::Region}", "ap-southeast-2")
    assert len(text) <= 63


def test_roles_of_two_regions_are_two() -> None:
    assert Names("a", "b", "us-east-1").role("f") != Names("a", "b", "us-east-2").role("f")


def test_own_tags_cannot_replace_those_by_which_a_deployment_is_found() -> None:
    tags = Names("bert", "dev", "us-east-1").tags({"team": "x", "lamella:stage": "prod"})
    assert tags == {"team": "x", "lamella:deployment": "bert", "lamella:stage": "dev"}
