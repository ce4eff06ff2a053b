"""`lamella.export`: a deployment on AWS as a folder for CloudFormation, Terraform or the CDK."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lamella.errors import PackageError, UsageError
from lamella.targets.aws.checks import check_release
from lamella.targets.aws.export import PACKAGES, Format, exported
from lamella.targets.aws.naming import Names
from lamella.targets.aws.release import Function, Model, Release, ZipCode
from lamella.targets.aws.settings import Settings
from lamella.targets.aws.template import published, template
from lamella.targets.base import DEFAULT_STAGE, DEFAULT_TIMEOUT_S
from lamella.targets.building import default_memory_mb
from lamella.targets.sources import name_of
from lamella.targets.state import check_name
from lamella.workflow.manifest import read_manifest
from lamella.workflow.steps import check_travels, workflow_of

if TYPE_CHECKING:
    from lamella.packaging.package import Package
    from lamella.platforms.base import Platform
    from lamella.workflow.manifest import Manifest

_ANY_STORE = "s3://lamella"  # packages need what reads S3; which bucket it is, their environment says


def export(
    sliced: str | Path,
    folder: str | Path,
    *,
    format: Format,
    settings: Settings,
    name: str | None = None,
    stage: str = DEFAULT_STAGE,
    memory_mb: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> tuple[Path, ...]:
    """Write everything that another tool needs to deploy slices on AWS. Speaks to no AWS, and needs no account.

    Args:
        sliced: A slices directory.
        folder: Where to; made, and must not hold anything yet.
        format: Which tool it is for.
        settings: How it is set up; models are in their packages.
        name: The deployment's name; by default from the model's file.
        stage: The named deployment.
        memory_mb: Memory of every function; by default as `building.default_memory_mb` has it.
        timeout_s: The longest that one slice may take.

    Returns:
        The files that were written.

    Raises:
        UsageError: Settings contradict each other, or need what only `lamella deploy` does.
        LamellaError: The slices cannot be packaged, or do not fit the platform.
    """
    from lamella.packaging.package import build_packages
    from lamella.platforms.reading import load_platform

    directory, target = Path(sliced), Path(folder)
    _check(settings, target)
    manifest = read_manifest(directory)
    check_travels(manifest)
    names = Names(check_name(name or name_of(directory), "name"), check_name(stage, "stage"), settings.region)
    platform = load_platform("aws-lambda")
    packages = build_packages(
        directory,
        name=names.base,
        platform=platform,
        architecture=settings.architecture,
        python=settings.python,
        store=_ANY_STORE,
    )
    sizes = _sizes(manifest, platform, memory_mb)
    functions = tuple(
        _function(names, package, settings, sizes[package.function.slice], timeout_s)
        for package in packages
        if package.function.outputs
    )
    model = Model(names.name, workflow_of(manifest, [package.function for package in packages]))
    release = published(names, settings, Release(1, (model,), functions))
    check_release(settings, release)
    texts = exported(format, names, template(names, settings, [release], live=1), names.tags(dict(settings.tags)))
    return _write(target, texts, {package.sha256: package for package in packages if package.function.outputs})


def _check(settings: Settings, target: Path) -> None:
    settings.check()
    if settings.delivery != "package":
        raise UsageError(
            f"an export holds packages, and delivery `{settings.delivery}` puts models elsewhere first",
            hint="use delivery `package`, or deploy with `lamella deploy --target aws`",
        )
    if settings.has_front_door:
        raise UsageError(
            "an export is reached through the APIs of AWS", hint="leave the front doors out, or use `lamella deploy`"
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"`{target}` is there already", hint="give a folder that does not exist, or an empty one")


def _sizes(manifest: Manifest, platform: Platform, memory_mb: int | None) -> dict[int, int]:
    """Memory of each slice's function, as the platform offers it."""
    found = {}
    for entry in manifest.slices:
        needed_mb = memory_mb or default_memory_mb(manifest, entry.index, platform.limits.memory_max_mb)
        sizes = platform.limits.memory_sizes(needed_mb)
        if not sizes:
            raise PackageError(
                f"slice {entry.index} needs {needed_mb} MB, and {platform.title} offers "
                f"{platform.limits.memory_max_mb} MB",
                hint="ask for less" if memory_mb else "cut the model into more slices",
            )
        found[entry.index] = sizes[0]
    return found


def _function(names: Names, package: Package, settings: Settings, memory_mb: int, timeout_s: float) -> Function:
    return Function(
        name=names.function(package.function.name),
        model=names.name,
        slice=package.function.slice,
        code=ZipCode(f"{PACKAGES}/{package.sha256}.zip"),
        memory_mb=memory_mb,
        timeout_s=max(1, round(timeout_s)),
        temporary_mb=settings.temporary_mb,
    )


def _write(target: Path, texts: dict[str, str], packages: dict[str, Package]) -> tuple[Path, ...]:
    from lamella.packaging.zip import write_zip

    (target / PACKAGES).mkdir(parents=True, exist_ok=True)
    written = []
    for digest, package in packages.items():
        written.append(target / PACKAGES / f"{digest}.zip")
        write_zip(package, written[-1])
    for name, text in texts.items():
        written.append(target / name)
        written[-1].write_text(text, encoding="utf-8")
    return tuple(written)
