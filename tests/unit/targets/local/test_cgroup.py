"""Cgroups in folders that look like the kernel's, of both versions; the functional suite uses the kernel's own."""

from pathlib import Path

import pytest

from lamella.targets.local.cgroup import Cgroup, Parent, find_hierarchy
from lamella.targets.local.guardian import owner_prefix, remove_stale_cgroups


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "proc-self-cgroup"


def test_version_2_uses_the_nearest_folder_whose_children_have_limits(tmp_path: Path, own: Path) -> None:
    write(
        tmp_path,
        {
            "cgroup.controllers": "cpu memory pids io",
            "cgroup.procs": "",
            "cgroup.subtree_control": "cpu memory pids",
            "user/cgroup.procs": "",
            "user/cgroup.subtree_control": "cpu memory pids",
            "user/app/cgroup.procs": "",
            "user/app/cgroup.subtree_control": "memory pids",
            "user/app/run.scope/cgroup.procs": "1",
            "user/app/run.scope/cgroup.subtree_control": "",
        },
    )
    own.write_text("0::/user/app/run.scope\n")
    parent = Parent(tmp_path / "user", 2)
    assert find_hierarchy(tmp_path, own) == {"memory": parent, "cpu": parent, "pids": parent, "freezer": parent}


def test_version_1_uses_each_controller_where_it_is(tmp_path: Path, own: Path) -> None:
    write(tmp_path, {f"{name}/cgroup.procs": "" for name in ("memory/mine", "cpu", "freezer")})
    own.write_text("4:memory:/mine\n3:cpu,cpuacct:/\n2:freezer:/\n1:name=systemd:/\n0::/\n")
    assert find_hierarchy(tmp_path, own) == {
        "memory": Parent(tmp_path / "memory/mine", 1),
        "cpu": Parent(tmp_path / "cpu", 1),
        "freezer": Parent(tmp_path / "freezer", 1),
    }


def test_a_machine_with_both_freezes_by_version_2(tmp_path: Path, own: Path) -> None:
    write(tmp_path, {"memory/cgroup.procs": "", "freezer/cgroup.procs": ""})
    write(tmp_path / "unified", {"cgroup.controllers": "", "cgroup.subtree_control": "", "cgroup.procs": ""})
    own.write_text("2:memory:/\n1:freezer:/\n0::/\n")
    assert find_hierarchy(tmp_path, own) == {
        "memory": Parent(tmp_path / "memory", 1),
        "freezer": Parent(tmp_path / "unified", 2),
    }


def test_no_cgroups_are_no_error(tmp_path: Path, own: Path) -> None:
    assert find_hierarchy(tmp_path, own) == {}
    own.write_text("0::/\n")
    assert find_hierarchy(tmp_path, own) == {}


def test_limits_of_version_2(tmp_path: Path) -> None:
    parent = Parent(tmp_path, 2)
    cgroup = Cgroup({"memory": parent, "cpu": parent, "pids": parent, "freezer": parent}, "one")
    (tmp_path / "one/memory.swap.max").touch()
    (tmp_path / "one/cgroup.freeze").touch()
    cgroup.limit(memory_bytes=128 << 20, processors=0.5)
    cgroup.freeze()
    found = {path.name: path.read_text() for path in (tmp_path / "one").iterdir()}
    assert found == {
        "memory.max": str(128 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "10000 20000",
        "pids.max": "1024",
        "cgroup.freeze": "1",
    }
    cgroup.thaw()
    assert (tmp_path / "one/cgroup.freeze").read_text() == "0"
    write(
        tmp_path / "one",
        {"cgroup.procs": "12\n13\n", "memory.events": "oom 1\noom_kill 2\n", "memory.stat": "shmem 9\n"},
    )
    assert (cgroup.processes(), cgroup.memory_kills(), cgroup.temporary_bytes()) == ([12, 13], 2, 9)
    assert cgroup.enter == f"echo $$ > '{tmp_path}/one/cgroup.procs' && "


def test_limits_of_version_1(tmp_path: Path) -> None:
    names = ("memory", "cpu", "freezer")
    for name in names:
        (tmp_path / name).mkdir()
    cgroup = Cgroup({name: Parent(tmp_path / name, 1) for name in names}, "one")  # type: ignore[misc]
    (tmp_path / "freezer/one/freezer.state").touch()
    (tmp_path / "memory/one/memory.memsw.limit_in_bytes").touch()
    cgroup.limit(memory_bytes=128 << 20, processors=0.01)
    cgroup.freeze()
    found = {f"{name}/{path.name}": path.read_text() for name in names for path in (tmp_path / name / "one").iterdir()}
    assert found == {
        "memory/memory.limit_in_bytes": str(128 << 20),
        "memory/memory.memsw.limit_in_bytes": str(128 << 20),
        "cpu/cpu.cfs_period_us": "20000",
        "cpu/cpu.cfs_quota_us": "1000",
        "freezer/freezer.state": "FROZEN",
    }
    (tmp_path / "memory/one/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert cgroup.memory_kills() == 1


def test_a_cgroup_that_is_gone_is_no_error(tmp_path: Path) -> None:
    parent = Parent(tmp_path, 2)
    cgroup = Cgroup({"memory": parent, "freezer": parent}, "one")
    assert cgroup.remove()
    cgroup.thaw()
    cgroup.kill()
    assert (cgroup.processes(), cgroup.memory_kills(), cgroup.remove()) == ([], 0, True)


def test_only_what_the_dead_have_left_is_removed(tmp_path: Path) -> None:
    namespace = owner_prefix().split("-")[1]
    mine, foreign = f"{owner_prefix()}7", "lamella-1-1-1-7"
    for name in (mine, foreign, f"lamella-{namespace}-{1 << 22}-123-7", "lamella-notes", "other"):
        (tmp_path / name).mkdir()
    assert remove_stale_cgroups([tmp_path]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {mine, foreign, "lamella-notes", "other"}


def test_a_cgroup_that_can_be_made_in_part_only_is_not_left(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    with pytest.raises(FileNotFoundError):
        Cgroup({"memory": Parent(tmp_path / "memory", 1), "cpu": Parent(tmp_path / "cpu", 1)}, "one")
    assert list((tmp_path / "memory").iterdir()) == []


def test_a_share_above_the_parents_leaves_the_parents() -> None:
    there = find_hierarchy().get("cpu")
    if there is None or there.version != 1:
        pytest.skip("needs the cpu controller of version 1")
    parent = Cgroup({"cpu": there}, f"{owner_prefix()}90001")
    folder = there.folder / f"{owner_prefix()}90001"
    try:
        parent.limit(memory_bytes=0, processors=0.5)
        child = Cgroup({"cpu": Parent(folder, 1)}, "one")
        try:
            child.limit(memory_bytes=0, processors=0.25)
            assert (folder / "one/cpu.cfs_quota_us").read_text().strip() == "5000"
        finally:
            child.remove()
        child = Cgroup({"cpu": Parent(folder, 1)}, "two")
        try:
            child.limit(memory_bytes=0, processors=1.5)
            assert (folder / "two/cpu.cfs_quota_us").read_text().strip() == "-1"
        finally:
            child.remove()
    finally:
        parent.remove()
