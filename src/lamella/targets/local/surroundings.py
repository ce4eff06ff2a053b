"""What an instance finds around its package: variables as on AWS Lambda, and the runtime that the platform provides."""

from __future__ import annotations

import compileall
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import lamella
from lamella.errors import MissingDependencyError
from lamella.targets.local.namespaces import GROUP, USER
from lamella.targets.local.sandbox import PATH
from lamella.targets.local.spec import FunctionSpec, Runtime

PASSWD = "etc-passwd"
_OWN_FILES = ("__init__.py", "errors.py", "runtime/*.py")


def variables(
    spec: FunctionSpec, *, version: str, api: str, region: str, stream: str, task_root: str, runtime_root: str
) -> dict[str, str]:
    """All variables of an instance; none of this process's own come in.

    Args:
        spec: The function.
        version: `$LATEST`, or a number.
        api: Host and port of the instance's Runtime API.
        region: The region that it is told to be in.
        stream: The log stream of AWS's that this instance would have.
        task_root: Where it sees its package.
        runtime_root: Where it sees the runtime.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    python = ".".join(platform.python_version_tuple()[:2])
    return {
        "AWS_DEFAULT_REGION": region,
        "AWS_REGION": region,
        "LANG": "C.UTF-8",  # AWS has en_US.UTF-8, which few machines have
        "LD_LIBRARY_PATH": _library_path(task_root, runtime_root),
        "PATH": PATH,
        "TZ": ":UTC",
        **spec.environment,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{python}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": spec.name,
        "AWS_LAMBDA_FUNCTION_VERSION": version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{spec.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "AWS_LAMBDA_RUNTIME_API": api,
        "LAMBDA_RUNTIME_DIR": runtime_root,
        "LAMBDA_TASK_ROOT": task_root,
        "_HANDLER": spec.handler,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": ":".join(dict.fromkeys([runtime_root, *spec.environment.get("PYTHONPATH", "").split(":")])).strip(
            ":"
        ),
        "PYTHONUNBUFFERED": "1",
    }


def _library_path(task_root: str, runtime_root: str) -> str:
    """Where shared libraries are looked for, as on AWS; first the interpreter's own, where it is one."""
    own = [f"{sys.base_prefix}/lib"] if sysconfig.get_config_var("Py_ENABLE_SHARED") else []
    folders = ["/lib64", "/usr/lib64", runtime_root, f"{runtime_root}/lib", task_root, f"{task_root}/lib", "/opt/lib"]
    return ":".join([*own, *folders])


def prepare_runtime(runtime: Runtime, parent: Path) -> Path:
    """A folder with the runtime, compiled, as instances see it; made once a platform, and shared by all of them.

    Raises:
        MissingDependencyError: AWS's runtime client is not installed.
    """
    folder = parent / runtime
    if folder.is_dir():
        return folder
    partial = Path(tempfile.mkdtemp(dir=parent))
    partial.chmod(0o755)
    for source, name in _own_files() if runtime == "lamella" else _distributed_files(runtime):
        target = partial / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    compileall.compile_dir(partial, quiet=2, stripdir=str(partial), prependdir="/var/runtime")
    (partial / PASSWD).write_text(
        f"root:x:0:0::/root:/sbin/nologin\nsbx_user1051:x:{USER}:{GROUP}::/home/sbx_user1051:/sbin/nologin\n"
    )
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(partial)  # another thread was faster
    return folder


def _own_files() -> Iterator[tuple[Path, str]]:
    root = Path(lamella.__file__).parent
    for pattern in _OWN_FILES:
        for path in sorted(root.glob(pattern)):
            yield path, f"lamella/{path.relative_to(root)}"


def _distributed_files(name: str) -> Iterator[tuple[Path, str]]:
    for found in _with_requirements(name, set()):
        for file in found.files or ():
            path = Path(str(found.locate_file(file)))
            if ".." not in file.parts and path.is_file() and path.suffix != ".pyc":
                yield path, str(file)


def _with_requirements(name: str, seen: set[str]) -> Iterator[Distribution]:
    if name in seen:
        return
    seen.add(name)
    try:
        found = distribution(name)
    except PackageNotFoundError:
        raise MissingDependencyError(f"`{name}` is not installed", hint=f"pip install {name}") from None
    yield found
    for requirement in found.requires or ():
        if "extra ==" not in requirement:
            yield from _with_requirements(re.split(r"[^\w.-]", requirement, maxsplit=1)[0], seen)
