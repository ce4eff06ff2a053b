"""`lamella.export`: a deployment on AWS as a folder for CloudFormation, Terraform or the CDK."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lamella.errors import PackageError, UsageError
from lamella.stores.directory import DirectoryStore
from lamella.targets.aws.checks import check_release
from lamella.targets.aws.export import Format, exported
from lamella.targets.aws.naming import Names
from lamella.targets.aws.releasing import ANY_STORE, Releasing, build, check_wanted
from lamella.targets.aws.settings import Settings
from lamella.targets.aws.template import published, template
from lamella.targets.base import DEFAULT_STAGE, DEFAULT_TIMEOUT_S, Wanted
from lamella.targets.sources import check_named, name_of
from lamella.targets.state import check_name


def export(
    sliced: str | Path | Mapping[str, str | Path],
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
        sliced: A slices directory, or several by the names of their models.
        folder: Where to; made, and must not hold anything yet. What cannot be finished leaves nothing there.
        format: Which tool it is for.
        settings: How it is set up, with its doors. Models are in packages, in images, or have their weights beside.
        name: The deployment's name; by default from the model's file.
        stage: The named deployment.
        memory_mb: Memory of every function; by default as `building.default_memory_mb` has it.
        timeout_s: The longest that one slice may take.

    Returns:
        The files that were written.

    Raises:
        UsageError: Settings contradict each other, or need what only `lamella deploy` does.
        RegistryError: The registry of the base image is unreachable, or refuses.
        LamellaError: The slices cannot be packaged, or do not fit the platform.
    """
    from lamella.platforms.reading import load_platform

    target = Path(folder)
    _check(settings, target)
    given = sliced if isinstance(sliced, Mapping) else {name_of(Path(sliced)): sliced}
    models = {key: Path(path) for key, path in given.items()}
    check_named(models, name, "give one: `--name app`")
    wanted = Wanted(
        name=check_name(name or next(iter(models)), "name"),
        stage=check_name(stage, "stage"),
        models=models,
        platform=load_platform("aws-lambda"),
        memory_mb=memory_mb,
        timeout_s=timeout_s,
        delivery=settings.delivery,
        temporary_mb=settings.temporary_mb,
    )
    check_wanted(wanted)
    with _whole(target) as partial:
        _write(wanted, settings, format, partial)
    return tuple(sorted(path for path in target.rglob("*") if path.is_file()))


def _check(settings: Settings, target: Path) -> None:
    if settings.delivery == "mount":
        raise UsageError(
            "an export has no mount: files get onto one only once its stack is there",
            hint="use delivery `object-store`, which takes models of any size as well",
        )
    settings.check()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"`{target}` is there already", hint="give a folder that does not exist, or an empty one")


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A folder whose content is in `target` at the end, if nothing goes wrong."""
    place = target if target.is_dir() else target.parent  # on the same file system
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".lamella-", dir=place) as partial:
            yield Path(partial)
            target.mkdir(exist_ok=True)
            for path in Path(partial).iterdir():
                path.replace(target / path.name)
    except OSError as error:
        raise PackageError(
            f"`{target}` cannot be written: {error.strerror or error}", hint="give a folder that exists and has room"
        ) from error


def _write(wanted: Wanted, settings: Settings, format: Format, folder: Path) -> None:
    from lamella.packaging.cache import in_use
    from lamella.packaging.images.files import write_layout

    names = Names(wanted.name, wanted.stage, settings.region)
    with in_use():
        built = build(wanted, settings, ANY_STORE, weights=DirectoryStore(folder.absolute()))
        made = Releasing(names, settings, _Folder(folder)).release(1, wanted, built)
        release = published(names, settings, made)
        check_release(settings, release)
        if settings.delivery == "image":
            asked = {step.function for model in release.models for step in model.workflow.steps}
            images = [image for model in built for image in model.images if image.name in asked]
            write_layout(images, folder / "images")
    whole = template(names, settings, [release], live=1)
    for file, text in exported(format, names, settings, release, whole).items():
        (folder / file).write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class _Folder:
    """The folder of an export, as a place for packages."""

    folder: Path

    def size(self, key: str) -> int | None:
        path = self.folder / key
        return path.stat().st_size if path.is_file() else None

    def upload(self, path: Path, key: str) -> None:
        from lamella.packaging.cache import link_or_copy

        (self.folder / key).parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(path, self.folder / key)
