"""What a function sees: its package, an interpreter, the system's libraries, and a temporary folder of its own.

A file system is put together from parts of this machine's, all read-only, by bubblewrap, or by `unshare` and `mount`
where there is none. Process ids, IPC and the host name are the function's own; the network is the machine's, as a
function reaches the outside on AWS too.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shlex import quote

from lamella.platforms.base import MB

TASK_ROOT = "/var/task"
RUNTIME_ROOT = "/var/runtime"
USER, GROUP = 993, 990
"""Who a function is on AWS Lambda."""

_SYSTEM = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
_SETTINGS = (
    "alternatives",
    "ca-certificates",
    "gai.conf",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "pki/ca-trust",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "resolv.conf",
    "services",
    "ssl/cert.pem",  # what lies beside these is private
    "ssl/certs",
    "ssl/openssl.cnf",
)
_ELSEWHERE = ("/nix/store", "/gnu/store", "/sys/devices/system/cpu")
_DEVICES = ("null", "zero", "full", "random", "urandom")


@dataclass(frozen=True)
class Bind:
    """A file or folder of this machine, and where the function sees it."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True)
class View:
    """All that a function sees.

    Attributes:
        task: Its package.
        runtime: What the platform adds: the client of the Runtime API.
        binds: Further folders.
        temporary_mb: Size of its `/tmp`.
        root: An empty folder on which a file system may be mounted, where nobody else sees it.
    """

    task: Path
    runtime: Path
    binds: tuple[Bind, ...]
    temporary_mb: int
    root: Path

    @property
    def all_binds(self) -> tuple[Bind, ...]:
        """What is bound, in an order in which it can be."""
        own = (Bind(str(self.task), TASK_ROOT), Bind(str(self.runtime), RUNTIME_ROOT))
        passwords = Bind(str(self.runtime / "etc-passwd"), "/etc/passwd")
        return (*system_binds(), passwords, *own, *self.binds)


def interpreter() -> str:
    """The Python that functions run: that of this process, without its virtual environment."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    return str(Path(base).resolve())


@cache
def system_binds() -> tuple[Bind, ...]:
    """The interpreter and the system's libraries and settings; links are bound as what they lead to."""
    folders = ["/usr", *(f"/{name}" for name in _SYSTEM if not Path(f"/{name}").is_symlink())]
    prefix = str(Path(sys.base_prefix).resolve())
    candidates = [*folders, *_ELSEWHERE, prefix, *(f"/etc/{name}" for name in _SETTINGS)]
    kept: list[str] = []
    for path in candidates:
        if Path(path).exists() and not any(Path(path).is_relative_to(other) for other in kept):
            kept.append(path)
    return tuple(Bind(os.path.realpath(path), path) for path in kept)


@cache
def system_links() -> tuple[tuple[str, str], ...]:
    """Links in the root folder, as `/lib` often is one to `usr/lib`: where each leads, and its path."""
    paths = [Path(f"/{name}") for name in _SYSTEM]
    return tuple((os.readlink(path), str(path)) for path in paths if path.is_symlink())


def bubblewrap(view: View, *, sizes: bool) -> list[str]:
    """The start of a command line that runs a program in such a view.

    Args:
        view: What it sees.
        sizes: Whether this bubblewrap can limit the temporary folder (0.8 can).
    """
    program = shutil.which("bwrap") or "bwrap"
    words = [program, "--unshare-user", "--uid", str(USER), "--gid", str(GROUP), "--unshare-pid", "--unshare-ipc"]
    words += ["--unshare-uts", "--hostname", "lamella", "--unshare-cgroup-try", "--die-with-parent", "--new-session"]
    words += ["--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
    for leads_to, path in system_links():
        words += ["--symlink", leads_to, path]
    if sizes:
        words += ["--size", str(view.temporary_mb * MB)]
    words += ["--perms", "1777", "--tmpfs", "/tmp"]  # before the folders: one of them may lie in this machine's `/tmp`
    for bind in view.all_binds:
        words += ["--bind" if bind.writable else "--ro-bind", bind.source, bind.target]
    for path in ("/dev", "/proc", "/"):  # in `/proc` there are settings of the whole system
        words += ["--remount-ro", path]
    return [*words, "--chdir", TASK_ROOT, "--"]


def unshare(view: View, *, as_root: bool) -> list[str]:
    """As `bubblewrap`, with the tools of util-linux only.

    Args:
        view: What it sees.
        as_root: Whether this process may mount; otherwise a user namespace lets it.
    """
    program = shutil.which("unshare") or "unshare"
    words = [program, "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
    if not as_root:
        words += ["--user", "--map-root-user"]
    return [*words, "/bin/sh", "-c", _script(view), "sh"]


def _script(view: View) -> str:
    """Puts the file system together, moves into it, and gives every privilege away."""
    root = str(view.root)
    lines = [
        "set -e; path=$PATH; PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        f"mount -t tmpfs -o mode=755,size=1m lamella {quote(root)}; cd {quote(root)}",
        "mkdir -m 755 -p dev proc tmp .old",
        f"mount -t tmpfs -o nosuid,nodev,mode=1777,size={view.temporary_mb}m tmp tmp",
        "mkdir -m 755 -p " + " ".join(_folders(view.all_binds)),
        *(f"ln -s {quote(leads_to)} .{quote(path)}" for leads_to, path in system_links()),
        *(": > " + quote(f".{bind.target}") for bind in view.all_binds if not Path(bind.source).is_dir()),
        *(_mount(bind) for bind in view.all_binds),
        *(f": > dev/{name}; mount --bind /dev/{name} dev/{name}" for name in _DEVICES),
        "ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr",
        "mount -t proc -o nosuid,nodev,noexec proc proc; mount -o remount,bind,ro,nosuid,nodev,noexec proc",
        "pivot_root . .old; cd /; umount -l .old; rmdir .old; mount -o remount,ro,bind /",
        f"cd {TASK_ROOT}; PATH=$path",
        # not `exec`: `unshare` hides that its own child was killed; and the shell shall not say so in the log
        "set +e; exec 3>&2 2>/dev/null",
        '/usr/bin/setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@" 2>&3 3>&-; exit $?',
    ]
    return "\n".join(lines)


def _folders(binds: Sequence[Bind]) -> list[str]:
    needed = [bind.target if Path(bind.source).is_dir() else str(Path(bind.target).parent) for bind in binds]
    return [quote(f".{path}") for path in dict.fromkeys(needed)]


def _mount(bind: Bind) -> str:
    options = "bind" if bind.writable else "bind,ro"
    return f"mount -o {options} {quote(bind.source)} {quote('.' + bind.target)}"
