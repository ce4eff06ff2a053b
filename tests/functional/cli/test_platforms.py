"""`lamella platforms`, and the page about platforms."""

import re
from datetime import date
from pathlib import Path

from tests.functional.cli.conftest import Lamella

from lamella.platforms import load_platform, platform_names

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "platforms.md"


def blocks(language: str) -> list[str]:
    """The code blocks of the page."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_all_platforms_are_listed(lamella: Lamella) -> None:
    result = lamella("platforms")
    assert (result.status, result.err) == (0, "")
    lines = [re.split(r"\s{2,}", line) for line in result.out.splitlines()]
    assert [line[0] for line in lines] == ["platform", *platform_names()]
    assert lines[1] == [
        *("aws-lambda", "128 to 10,240 MB", "250 MB", "900 s", "6 MB"),
        *("0.0000166667 x86_64, 0.0000133334 arm64", "0.20"),
    ]
    assert lines[2][1] == "512, 2,048, 4,096 MB"
    assert lines[3][5] == "0.0000025, and 0.000024 per vCPU-s"


def test_json_has_every_value_with_unit_source_and_date(lamella: Lamella) -> None:
    result = lamella("platforms", "--json")
    assert (result.status, result.err) == (0, "")
    assert result.json["schema"] == "lamella.platforms/1"
    shown = {platform["name"]: platform for platform in result.json["platforms"]}
    assert list(shown) == platform_names()
    for name, view in shown.items():
        platform = load_platform(name)
        places = [f"{section}.{key}" for section in ("limits", "pricing", "speeds") for key in view[section]]
        assert places == list(platform.figures)
        for section in ("limits", "pricing", "speeds"):
            for key, entry in view[section].items():
                figure = platform.figures[f"{section}.{key}"]
                value = list(figure.value) if isinstance(figure.value, tuple) else figure.value
                assert (entry["value"], entry["unit"], entry["source"]) == (value, figure.unit, figure.source)
                assert date.fromisoformat(entry["as_of"]) == figure.as_of


def test_json_of_one_platform_has_the_same_shape(lamella: Lamella) -> None:
    every = lamella("platforms", "--json").json["platforms"]
    assert lamella("platforms", "azure-flex", "--json").json == {
        "schema": "lamella.platforms/1",
        "platforms": [view for view in every if view["name"] == "azure-flex"],
    }


def test_profile_changes_the_values_that_are_shown(lamella: Lamella) -> None:
    result = lamella("platforms", "aws-lambda", "--profile", "new-account")
    lines = result.out.splitlines()
    assert (result.status, result.err) == (0, "")
    assert lines[:4] == [
        "platform       aws-lambda",
        "title          AWS Lambda",
        "profile        new-account",
        "profiles       new-account, container-image, standard-workflow",
    ]
    (row,) = [re.split(r"\s{2,}", line, maxsplit=4) for line in lines if line.startswith("memory_max_mb")]
    assert row[1:4] == ["3,008", "MB", "2026-11-01"]
    assert "3,008 MB for new accounts" in row[4]
    (view,) = lamella("platforms", "aws-lambda", "--profile", "new-account", "--json").json["platforms"]
    assert (view["profile"], view["limits"]["concurrency"]["value"]) == ("new-account", 10)


def test_values_are_shown_in_full(lamella: Lamella) -> None:
    shown = dict(
        re.split(r"\s{2,}", line, maxsplit=2)[:2]
        for name in ("aws-lambda", "azure-flex")
        for line in lamella("platforms", name).out.splitlines()
        if line
    )
    assert shown["temporary_storage_gb_s_usd"] == "0.0000000309"
    assert shown["package_unzipped_bytes"] == "262,144,000"
    assert shown["memory_sizes_mb"] == "512, 2,048, 4,096"
    assert shown["init_billed"] == "no"
    assert shown["workflow_transition_usd"] == "0"


def test_file_of_the_page_is_a_platform(lamella: Lamella, folder: Path) -> None:
    (text,) = blocks("toml")
    (folder / "ours.toml").write_text(text, encoding="utf-8")
    (view,) = lamella("platforms", "ours.toml", "--json").json["platforms"]
    assert (view["name"], view["title"], view["architectures"]) == ("our-lambda", "Our AWS account", ["arm64"])
    assert view["profiles"][-1] == "busy"
    assert view["limits"]["concurrency"]["value"] == 50
    assert view["limits"]["init_timeout_s"]["value"] is None
    result = lamella("platforms", "./ours.toml", "--profile", "busy")
    assert "\nconcurrency                           5  requests" in result.out
    assert "\ninit_timeout_s                     none  s" in result.out


def test_page_shows_what_the_command_prints_and_names_every_profile(lamella: Lamella) -> None:
    (shown,) = blocks("console")
    assert shown == f"$ lamella platforms\n{lamella('platforms').out}"
    table = PAGE.read_text(encoding="utf-8").partition("## Profiles")[2].partition("##")[0]
    profiles = {profile for name in platform_names() for profile in load_platform(name).profiles}
    assert profiles == set(re.findall(r"\| `([a-z-]+)` \|", table))


def test_mistakes_are_two_lines(lamella: Lamella, folder: Path) -> None:
    (folder / "mine.toml").write_text('schema = "lamella.platform/1"\nextends = "local"\n[speeds.hop]\n')
    told = {
        ("aws-lamda",): "error: there is no platform `aws-lamda`\nhint: did you mean `aws-lambda`?\n",
        ("--profile", "new-account"): (
            "error: `--profile` needs a platform\n"
            "hint: write `lamella platforms aws-lambda --profile new-account`\n"
        ),
        ("gcp-run", "--profile", "new"): (
            "error: platform `gcp-run` has no profile `new`\nhint: leave the profile out\n"
        ),
        ("mine.toml",): (
            "error: platform file `mine.toml` has an unknown key `speeds.hop`\nhint: did you mean `speeds.hop_ms`?\n"
        ),
    }  # fmt: skip
    for arguments, text in told.items():
        result = lamella("platforms", *arguments)
        assert (result.status, result.out, result.err) == (2, "", text)
