"""Platform files of the user's: what they inherit, what wins, and what is said of mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest

from lamella.errors import UsageError
from lamella.platforms import load_platform

HEAD = 'schema = "lamella.platform/1"\n'
AWS = f'{HEAD}extends = "aws-lambda"\n'


def figure(place: str, value: str, unit: str, source: str = "our own cluster") -> str:
    return f'[{place}]\nvalue = {value}\nunit = "{unit}"\nsource = "{source}"\nas_of = 2026-11-20\n'


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_file_that_extends_a_platform_gives_only_what_differs(tmp_path: Path) -> None:
    path = write(tmp_path, f'{AWS}title = "Ours"\n{figure("limits.timeout_s", "60", "s")}')
    mine, aws = load_platform(str(path)), load_platform("aws-lambda")
    assert (mine.name, mine.title, mine.limits.timeout_s) == ("mine", "Ours", 60)
    assert mine.figures["limits.timeout_s"].source == "our own cluster"
    assert {**mine.figures, "limits.timeout_s": 0} == {**aws.figures, "limits.timeout_s": 0}
    assert mine.architectures == aws.architectures


def test_file_may_extend_a_file_beside_it(tmp_path: Path) -> None:
    write(tmp_path, AWS + figure("limits.timeout_s", "60", "s") + figure("limits.concurrency", "7", "requests"))
    (tmp_path / "deeper").mkdir()
    text = f'{HEAD}extends = "../mine.toml"\narchitectures = ["arm64"]\n{figure("limits.timeout_s", "90", "s")}'
    child = load_platform(write(tmp_path / "deeper", text, "child.toml"))
    assert (child.limits.timeout_s, child.limits.concurrency, child.architectures) == (90, 7, ("arm64",))


def test_limit_can_be_removed(tmp_path: Path) -> None:
    platform = load_platform(write(tmp_path, AWS + figure("limits.init_timeout_s", '"none"', "s")))
    assert platform.limits.init_timeout_s is None
    assert platform.figures["limits.init_timeout_s"].value is None


def test_nearest_file_wins_and_in_a_file_its_profile(tmp_path: Path) -> None:
    own = figure("limits.concurrency", "50", "requests") + figure("profiles.busy.limits.concurrency", "9", "requests")
    path = write(tmp_path, AWS + own)
    assert load_platform(path).profiles == ("new-account", "container-image", "standard-workflow", "busy")
    assert load_platform(path, profile="busy").limits.concurrency == 9
    new = load_platform(path, profile="new-account").limits
    assert (new.memory_max_mb, new.concurrency) == (3008, 50)


def test_overrides_win_over_everything_and_keep_the_name(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + figure("limits.memory_max_mb", "4096", "MB"))
    platform = load_platform("aws-lambda", profile="new-account", overrides=path)
    assert (platform.name, platform.limits.memory_max_mb, platform.limits.concurrency) == ("aws-lambda", 4096, 10)


def test_a_file_can_stand_alone(tmp_path: Path) -> None:
    source = Path(sys.modules[load_platform.__module__].__file__ or "").parent / "gcp_run.toml"
    copy = load_platform(write(tmp_path, source.read_text()))
    assert copy == load_platform("gcp-run")


MISTAKES = [
    ("", "is no platform file of schema `lamella.platform/1`: it says none", "begin the file with"),
    ('schema = "lamella.platform/2"', "it says `lamella.platform/2`", "begin the file with"),
    ("schema = ", "is no TOML file: ", "correct it there"),
    (HEAD + "nme = 'x'", "has an unknown key `nme`", "did you mean `name`?"),
    (AWS + "name = 3", "has a wrong `name`", "write a text in quotes"),
    (AWS + "architectures = ['riscv']", "has a wrong `architectures`", "`x86_64`, `arm64`"),
    (AWS + "python_versions = [3.13]", "has a wrong `python_versions`", "a list of texts"),
    (AWS + "limits = 3", "has a value where `limits` is a table", "[limits]"),
    (AWS + "[limits]\ntimeout_s = 60", "has a value where `limits.timeout_s` is a table", "[limits.timeout_s]"),
    (AWS + "[speed]", "has an unknown key `speed`", "did you mean `speeds`?"),
    (AWS + figure("limits.timeout_ms", "1", "ms"), "unknown key `limits.timeout_ms`", "mean `limits.timeout_s`?"),
    (AWS + figure("pricing.gb_s_usd.x86", "1", "USD/GB-s"), "key `pricing.gb_s_usd.x86`", "`pricing.gb_s_usd.x86_64`"),
    (AWS + figure("pricing.gb_s_usd", "1", "USD/GB-s"), "unknown key `pricing.gb_s_usd.value`", "`x86_64`, `arm64`"),
    (AWS + figure("profiles.a.speed.hop_ms", "1", "ms"), "unknown key `profiles.a.speed`", "`profiles.a.speeds`"),
    (AWS + "[limits.timeout_s]\nvalue = 3", "gives no `unit` for `limits.timeout_s`", "every value says"),
    (
        AWS + "[limits.timeout_s]\nvalue = 3\nunit = 's'\nas_of = 2026-11-20",
        "gives no `source` for `limits.timeout_s`",
        "every value says",
    ),
    (
        AWS + "[limits.timeout_s]\nvalue = 3\nunit = 's'\nsource = 'me'",
        "gives no `as_of` for `limits.timeout_s`",
        "every value says",
    ),
    (
        AWS + "[limits.timeout_s]\nvalue = 3\nunit = 's'\nsource = 'me'\nas_of = '2026-11-20'",
        "has a wrong `limits.timeout_s.as_of`",
        "without quotes",
    ),
    (AWS + figure("limits.timeout_s", "3", "s", source=" "), "wrong `limits.timeout_s.source`", "not empty"),
    (AWS + figure("limits.timeout_s", "3", "min"), "gives `limits.timeout_s` in `min`", "give it in `s`"),
    (AWS + figure("limits.timeout_s", "'3'", "s"), "has a wrong `limits.timeout_s.value`", 'a number, or `"none"`'),
    (AWS + figure("limits.timeout_s", "nan", "s"), "has a wrong `limits.timeout_s.value`", "a number"),
    (AWS + figure("limits.timeout_s", "-3", "s"), "has `limits.timeout_s` = -3", "above 0"),
    (AWS + figure("limits.memory_max_mb", "1.5", "MB"), "wrong `limits.memory_max_mb.value`", "a whole number"),
    (AWS + figure("limits.memory_max_mb", "true", "MB"), "wrong `limits.memory_max_mb.value`", "a whole number"),
    (AWS + figure("limits.memory_max_mb", '"none"', "MB"), "wrong `limits.memory_max_mb.value`", "a whole number"),
    (AWS + figure("limits.memory_sizes_mb", "512", "MB"), "wrong `limits.memory_sizes_mb.value`", "a list of"),
    (AWS + figure("limits.memory_sizes_mb", "[512.5]", "MB"), "wrong `limits.memory_sizes_mb.value`", "a list of"),
    (AWS + figure("limits.memory_sizes_mb", "[512, 64]", "MB"), "has memory sizes 512, 64 MB", "correct"),
    (AWS + figure("limits.memory_max_mb", "64", "MB"), "has memory sizes 128, 64 MB", "correct"),
    (AWS + figure("pricing.init_billed", "1", "yes/no"), "wrong `pricing.init_billed.value`", "`true` or `false`"),
    (AWS + figure("pricing.billing_step_ms", "0", "ms"), "has `pricing.billing_step_ms` = 0", "above 0"),
    (AWS + figure("pricing.request_usd", "-1", "USD/request"), "has `pricing.request_usd` = -1", "at least 0"),
    (AWS + figure("speeds.parallel_share", "97", "share"), "has `speeds.parallel_share` = 97", "from 0 to 1"),
    (AWS + figure("limits.timeout_s", "1" + "0" * 400, "s"), "64 bits at `limits.timeout_s.value`", "smaller number"),
    (AWS + figure("limits.memory_sizes_mb", f"[512, {2**63}]", "MB"), "64 bits at `limits.memory_sizes_mb.value`", ""),
    (f"schema = 0x{'f' * 5000}", "has an integer of more than 64 bits at `schema`", "write a smaller number"),
    (AWS + "[limits.timeout_s]\nunit = 0x" + "f" * 5000, "64 bits at `limits.timeout_s.unit`", "smaller number"),
    (AWS + "title = " + "[" * 5000 + "]" * 5000, "nests too deeply", "at most 20 levels"),
    (AWS + "limits.timeout_s.unit" + ".a" * 900 + " = 1", "nests too deeply", "at most 20 levels"),
    (AWS + figure("limits.memory_max_mb", "4194305", "MB"), "has `limits.memory_max_mb` = 4194305", "at most 4194304"),
    (HEAD, "has no `limits.memory_min_mb` and 24 more", 'extends = "aws-lambda"'),
    (HEAD + 'extends = "aws-lamda"', "there is no platform `aws-lamda`", "did you mean `aws-lambda`?"),
    (HEAD + 'extends = "gcp-run"\narchitectures = ["arm64"]\n' + figure("pricing.gb_s_usd.x86_64", "1", "USD/GB-s"),
     "has no price `pricing.gb_s_usd.arm64`", "`pricing.vcpu_s_usd` and `pricing.gib_s_usd` alone"),
    (HEAD + 'extends = "mine.toml"', "extends itself", "remove one `extends`"),
    (HEAD + 'extends = "gone.toml"', "gone.toml` cannot be read: no such file or directory", "check the path"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "hint"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_name_the_file_and_the_key(tmp_path: Path, text: str, message: str, hint: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_platform(path)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert ".toml`" in caught.value.message or "platform `aws-lamda`" in caught.value.message


def test_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is no TOML file"):
        load_platform(path)


def test_overrides_may_not_name_a_platform(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="says `extends`, but it only replaces values"):
        load_platform("local", overrides=write(tmp_path, AWS))


@pytest.mark.parametrize(
    ("name", "profile", "message", "hint"),
    [
        ("aws", None, "there is no platform `aws`", "there is `aws-lambda`, `azure-flex`, `gcp-run`, `local`"),
        ("aws_lambda", None, "there is no platform `aws_lambda`", "did you mean `aws-lambda`?"),
        ("aws-lambda", "new", "platform `aws-lambda` has no profile `new`", "it has `new-account`"),
        ("aws-lambda", "new-acount", "has no profile `new-acount`", "did you mean `new-account`?"),
        ("gcp-run", "new-account", "platform `gcp-run` has no profile `new-account`", "leave the profile out"),
        ("gone.toml", None, "platform file `gone.toml` cannot be read: no such file or directory", "check the path"),
    ],
)
def test_unknown_names_say_which_there_are(name: str, profile: str | None, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_platform(name, profile=profile)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_reading_platforms_imports_no_numpy() -> None:
    code = "import sys; from lamella.platforms import platforms; platforms(); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert loaded.isdisjoint({"numpy", "onnx", "onnxruntime", "rich", "typer"})
