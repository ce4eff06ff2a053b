import subprocess
import sys
from pathlib import Path

import pytest

from lamella.targets.local.enforcement import enforcement
from lamella.targets.local.namespaces import Bind, View, bubblewrap, interpreter, system_binds, unshare
from lamella.targets.local.sandbox import Means, enter

VIEW = View(Path("/a b"), Path("/run time"), (Bind("/data", "/mnt/da ta", writable=True),), 512, Path("/ro'ot"))


def test_only_what_was_asked_for_can_be_written_to() -> None:
    words = bubblewrap(VIEW, sizes=True)
    assert words[words.index("--bind") + 1 : words.index("--bind") + 3] == ["/data", "/mnt/da ta"]
    assert words.count("--bind") == 1
    assert words[words.index("--size") + 1] == str(512 << 20)
    assert "--size" not in bubblewrap(VIEW, sizes=False)


def test_paths_are_quoted_for_the_shell() -> None:
    script = unshare(VIEW, as_root=True)[-2]
    assert "mount -o bind,ro '/a b' ./var/task\n" in script
    assert "mount -o bind /data './mnt/da ta'\n" in script
    checked = subprocess.run(["/bin/sh", "-n", "-c", script], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "--map-root-user" in unshare(VIEW, as_root=False)


def test_nothing_is_bound_that_lies_below_something_else() -> None:
    targets = [Path(bind.target) for bind in system_binds()]
    assert Path("/usr") in targets
    assert not [path for path in targets if set(path.parents) & set(targets)]
    assert not [bind for bind in system_binds() if bind.writable]
    assert any(Path(interpreter()).is_relative_to(path) for path in targets)


def test_limits_of_the_shell_hold_for_what_it_becomes() -> None:
    kinds = "r.RLIMIT_NOFILE, r.RLIMIT_CORE, r.RLIMIT_DATA"
    asked = f"import resource as r; print(*(r.getrlimit(kind)[0] for kind in ({kinds})))"
    found = subprocess.run(
        [*enter(None, data_mb=256), sys.executable, "-c", asked], capture_output=True, text=True, check=True
    )
    files, core, data = found.stdout.split()
    assert (files, core) == ("1024", "0")
    if sys.platform == "linux":
        assert int(data) == (2 * 256 + 512) << 20


@pytest.mark.parametrize("isolation", ["bubblewrap", "unshare", "none"])
def test_what_is_not_enforced_has_a_hint_or_a_reason(isolation: str) -> None:
    for entry in enforcement(Means(isolation, sizes=False, hierarchy={})):  # type: ignore[arg-type]
        assert entry.how
        assert entry.enforced == "yes" or entry.hint or entry.limit == "network"
