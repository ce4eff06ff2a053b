"""Deployments on AWS: each a CloudFormation stack, whose bucket holds all that is known of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from lamella.errors import LamellaError, RemoteError, UsageError
from lamella.packaging.cache import in_use
from lamella.targets.aws.account import Account
from lamella.targets.aws.asking import Asking
from lamella.targets.aws.bucket import DeploymentBucket
from lamella.targets.aws.checks import check_kept, check_release
from lamella.targets.aws.deployed import STAGE_TAG, TAG, Deployed
from lamella.targets.aws.following import LogFollower, logging_functions, report_lines
from lamella.targets.aws.history import numbered, reserved, with_version
from lamella.targets.aws.intrinsics import Json
from lamella.targets.aws.later import LaterAnswer, LaterRequests
from lamella.targets.aws.leftovers import leftovers
from lamella.targets.aws.loading import Loading, LoadingError
from lamella.targets.aws.mounts import check_mount, lacks_mount, mount_of
from lamella.targets.aws.naming import Names
from lamella.targets.aws.preflight import check_images, check_network, check_quotas
from lamella.targets.aws.record import KEY, Record, written
from lamella.targets.aws.release import ImageCode, Release, ZipCode
from lamella.targets.aws.releasing import PACKAGES, Releasing, build, check_wanted, weights_bytes
from lamella.targets.aws.removing import remove
from lamella.targets.aws.repository import DeploymentRepository
from lamella.targets.aws.settings import Settings
from lamella.targets.aws.stacks import Progress, Resource, Stacks
from lamella.targets.aws.template import foundation, published, template
from lamella.targets.aws.template import written as text_of
from lamella.targets.base import (
    DEFAULT_STAGE,
    VERSIONS_KEPT,
    Change,
    Deployment,
    LogLine,
    Version,
    Wanted,
    key_of,
)
from lamella.targets.building import BuiltModel, functions_of
from lamella.targets.changes import changes
from lamella.targets.reports import Reports, read_invocations
from lamella.workflow.request import Answer

_TEMPLATE = "lamella/template.json"
_WEIGHTS = "weights/"
_LOOKS = 5  # some services tell of a thing for seconds after it is gone


@dataclass(frozen=True)
class Preview:
    """What deploying would do.

    Attributes:
        changes: To functions.
        settings: How it would be set up.
        release: What would be deployed; packages count with the bytes that they unpack to.
        weights_bytes: What lies in the bucket or on the file system, beside packages.
    """

    changes: tuple[Change, ...]
    settings: Settings
    release: Release
    weights_bytes: int


class AwsTarget:
    """The target `aws`. Thread-safe; that a deployment changes once at a time is CloudFormation's business.

    Args:
        settings: How what is deployed is set up; for all other verbs, region and profile are enough.
        account: By default that of the user's credentials.
        told: Called with each thing that happens while a stack changes, and with each image that was pushed.
        poll_s: How often AWS is asked while something changes.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        account: Account | None = None,
        told: Callable[[Progress], None] | None = None,
        poll_s: float = 2.0,
    ) -> None:
        settings.check()
        self._settings, self._poll_s = settings, poll_s
        self._account = account or Account(settings.region, profile=settings.profile)
        self._told = told or (lambda _: None)
        self._stacks = Stacks(self._account, told=told, poll_s=poll_s)
        self._deployed = Deployed(self._account, self._stacks)

    def diff(self, wanted: Wanted) -> list[Change]:
        """What `apply` would change. Builds the packages, and changes nothing else."""
        return list(self.preview(wanted).changes)

    def preview(self, wanted: Wanted) -> Preview:
        """The same, with what would be deployed, from which its price can be estimated."""
        check_wanted(wanted)
        names, settings = self._deployed.names(wanted.name, wanted.stage), self._settings_of(wanted)
        found = self._deployed.read(names)
        built = build(wanted, settings, f"s3://{names.bucket}")
        release = Releasing(names, settings, None).release(1, wanted, built)
        _check(settings, release, found)
        there = None if found is None else found.deployment
        return Preview(tuple(changes(there, functions_of(wanted, built))), settings, release, weights_bytes(built))

    def apply(self, wanted: Wanted) -> Deployment:
        """Deploy a new version of all functions, and let it answer as soon as all of them are there.

        What cannot be made leaves nothing behind, and what cannot be changed is as it was before. A run that was
        interrupted is gone on with by the next one, and so is one that could not copy the model to a file system.

        Raises:
            UsageError: What is wanted contradicts itself.
            PlanError: The platform, or the account's quotas, do not allow what is wanted.
            RemoteError: AWS refuses.
            RegistryError: Images cannot be pushed, or their base cannot be fetched.
            LamellaError: The slices cannot be packaged.
        """
        check_wanted(wanted)
        names, settings = self._deployed.names(wanted.name, wanted.stage), self._settings_of(wanted)
        self._stacks.settle(names.stack)
        outputs = self._deployed.outputs(names)
        check_mount(wanted, settings, outputs)
        found = None if outputs is None else self._deployed.record(names, outputs)
        try:
            with in_use():
                return self._apply(wanted, names, settings, outputs, found)
        except LoadingError:
            raise  # with gigabytes copied already, which the next run uses
        except Exception as error:
            if found is None:
                self._undo(names, error)
            raise

    def _apply(
        self,
        wanted: Wanted,
        names: Names,
        settings: Settings,
        outputs: Mapping[str, str] | None,
        found: Record | None,
    ) -> Deployment:
        number = 1 if found is None else max(found.functions) + 1
        built = self._built(wanted, names, settings, found)  # what is wrong is found before anything is made
        if settings.mount is not None and (outputs is None or mount_of(outputs) is None):
            check_network(self._account)
        outputs = self._founded(names, settings, outputs, found)
        bucket = DeploymentBucket(self._account, outputs["Bucket"])
        if wanted.delivery == "object-store":
            built = build(wanted, settings, bucket.uri, weights=self._account.store(bucket.uri))
        if settings.mount is not None:
            self._loading(outputs).bring([file for model in built for each in model.packages for file in each.mounted])
        uri = outputs.get("Repository", "")
        repository = DeploymentRepository(self._account, names.repository, uri, told=self._told)
        made = Releasing(names, settings, bucket, repository).release(number, wanted, built)
        release = published(names, settings, made)
        version = self._version(wanted, number, built, bucket)
        record = with_version(found, wanted, settings, version, release)
        bucket.write(KEY, written(record.at(number if found is None else found.deployment.live)))
        self._update(names, record, outputs)
        return self._finished(names, record, outputs)

    def _founded(
        self, names: Names, settings: Settings, outputs: Mapping[str, str] | None, found: Record | None
    ) -> Mapping[str, str]:
        """What the stack says, once it has all that must be there before a release."""
        if outputs is None:
            remove(
                self._account, self._stacks, names, told=self._told, poll_s=self._poll_s
            )  # what an earlier run could not make
            return self._changed(names, settings, foundation(names, settings))
        lacks_repository = settings.delivery == "image" and "Repository" not in outputs
        if not lacks_repository and not lacks_mount(settings, outputs):
            return outputs
        if found is None:
            return self._changed(names, settings, foundation(names, settings))
        also = replace(found.settings, delivery="image") if lacks_repository else found.settings
        mount = settings.mount or mount_of(outputs)
        whole = template(names, also, found.releases, live=found.deployment.live, mount=mount)
        return self._changed(names, found.settings, whole, DeploymentBucket(self._account, outputs["Bucket"]))

    def _loading(self, outputs: Mapping[str, str]) -> Loading:
        """What brings files to the deployment's file system."""
        store = self._account.store(f"s3://{outputs['Bucket']}")
        return Loading(self._account, store, outputs.get("Loader"), told=self._told, poll_s=self._poll_s)

    def _built(self, wanted: Wanted, names: Names, settings: Settings, found: Record | None) -> list[BuiltModel]:
        """The models as packages, once nothing speaks against deploying them."""
        built = build(wanted, settings, f"s3://{names.bucket}")
        release = Releasing(names, settings, None).release(1, wanted, built)
        _check(settings, release, found)
        if wanted.delivery == "image":
            check_images(self._account)
        check_quotas(self._account, settings, release, reserved=reserved(found))
        return built

    def _update(self, names: Names, record: Record, outputs: Mapping[str, str]) -> None:
        live, mount = record.deployment.live, mount_of(outputs)
        found = template(names, record.settings, record.releases, live=live, mount=mount)
        self._changed(names, record.settings, found, DeploymentBucket(self._account, outputs["Bucket"]))

    def _changed(
        self, names: Names, settings: Settings, found: Json, bucket: DeploymentBucket | None = None
    ) -> dict[str, str]:
        """What the stack says once it is as a template says; a long one goes through the bucket."""
        place = None if bucket is None else lambda long: bucket.write(_TEMPLATE, long.encode())
        return self._stacks.apply(names.stack, text_of(found), tags=names.tags(dict(settings.tags)), place=place)

    def _finished(self, names: Names, record: Record, outputs: Mapping[str, str]) -> Deployment:
        """Keep what is deployed now, with the numbers that AWS gave to versions."""
        numbers = {logical: arn.rpartition(":")[2] for logical, arn in self._deployed.versions(names).items()}
        record, bucket = numbered(record, numbers), DeploymentBucket(self._account, outputs["Bucket"])
        bucket.write(KEY, written(record))
        kept = [function for entries in record.functions.values() for function in entries]
        needed = {function.code.key for function in kept if isinstance(function.code, ZipCode)}
        needed |= {key for function in kept for key in function.weights}
        bucket.remove([key for place in (PACKAGES, _WEIGHTS) for key in bucket.keys(place) if key not in needed])
        if any(settings.delivery == "image" for settings in record.chosen.values()):
            images = {function.code.digest for function in kept if isinstance(function.code, ImageCode)}
            DeploymentRepository(self._account, names.repository).keep(images)
        if mount_of(outputs) is not None:
            self._loading(outputs).clean({folder for function in kept for folder in function.mounted_folders})
        return record.deployment

    def infer(
        self,
        name: str,
        inputs: Mapping[str, object],
        *,
        stage: str = DEFAULT_STAGE,
        model: str | None = None,
        version: int | str | None = None,
        slice: int | None = None,
        request_id: str | None = None,
    ) -> Answer:
        """Send one request to a model of the live version or another, to all slices or to one of them alone.

        The live version is asked through its workflow. Another version, or one slice, is asked function by function
        from here.

        Raises:
            NotDeployedError: Nothing is deployed under this name, or not in this version, or not this model.
            UsageError: It has no such slice, or several models, and none is named.
            InputError: An input is missing, unknown, or of another datatype or shape.
            RemoteError: A slice failed for good.
        """
        names = self._deployed.names(name, stage)
        record, outputs = self._deployed.found(names)
        asked = record if version is None else record.at(version)
        deployed = asked.deployment.model(model)
        asking = Asking(self._account, self._account.store(asked.deployment.store), outputs)
        if slice is None and asked.deployment.live == record.deployment.live:
            return asking.workflow(deployed, inputs)
        with asking.chain(deployed, self._deployed.arns(names, asked)) as chain:
            if slice is None:
                return chain.infer(inputs, request_id=request_id)
            return chain.infer_slice(slice, inputs, request_id=request_id)

    def submit(
        self, name: str, inputs: Mapping[str, object], *, stage: str = DEFAULT_STAGE, model: str | None = None
    ) -> str:
        """Send a request to a model of the live version, and do not wait; returns the id for `result`.

        Raises:
            NotDeployedError: Nothing is deployed under this name, or not this model.
            UsageError: Nothing answers later there, or there are several models, and none is named.
            InputError: An input is missing, unknown, or of another datatype or shape.
            RemoteError: It cannot be started.
        """
        later, deployment = self._later(name, stage)
        return later.submit(deployment.model(model), inputs)

    def result(self, name: str, request_id: str, *, stage: str = DEFAULT_STAGE) -> LaterAnswer:
        """Wait for the answer to a request that was sent by `submit`, or to a door; it is kept for a day.

        Raises:
            NotDeployedError: Nothing is deployed under this name.
            UsageError: There is no such request, or no more.
            LamellaError: What it failed with.
        """
        later, _ = self._later(name, stage)
        while (found := later.result(request_id)) is None:
            time.sleep(self._poll_s)
        return found

    def _later(self, name: str, stage: str) -> tuple[LaterRequests, Deployment]:
        record, outputs = self._deployed.found(self._deployed.names(name, stage))
        store, asynchronous = self._account.store(record.deployment.store), record.settings.asynchronous
        later = LaterRequests(self._account, store, outputs, record.deployment, asynchronous=asynchronous)
        return later, record.deployment

    def status(self) -> Sequence[Deployment]:
        """Everything that is deployed in this account and region, by name and stage."""
        found = []
        for _, tags in self._stacks.named({TAG: None, STAGE_TAG: None}):
            record = self._deployed.read(self._deployed.names(tags[TAG], tags[STAGE_TAG]))
            if record is not None:
                found.append(record.deployment)
        return sorted(found, key=lambda deployment: deployment.key)

    def find(self, name: str, *, stage: str = DEFAULT_STAGE) -> Deployment:
        """What is deployed under a name.

        Raises:
            NotDeployedError: Nothing is.
        """
        return self._deployed.found(self._deployed.names(name, stage))[0].deployment

    def outputs(self, name: str, *, stage: str = DEFAULT_STAGE) -> Mapping[str, str]:
        """What a deployment's stack says: its doors, its bucket, its workflows.

        Raises:
            NotDeployedError: Nothing is deployed under this name.
        """
        return self._deployed.found(self._deployed.names(name, stage))[1]

    @property
    def region(self) -> str:
        """Where it deploys to."""
        return self._account.region

    def stack_of(self, name: str, *, stage: str = DEFAULT_STAGE) -> str:
        """The name of a deployment's stack, whether there is one or not."""
        return self._deployed.names(name, stage).stack

    def logs(
        self,
        name: str,
        *,
        stage: str = DEFAULT_STAGE,
        model: str | None = None,
        slice: int | None = None,
        follow: bool = False,
    ) -> Iterator[LogLine]:
        """What the functions of all models, or of one, have logged; with `follow`, what comes as well, without end."""
        names = self._deployed.names(name, stage)
        functions, shown = logging_functions(names, self._deployed.found(names)[0], model, slice)
        return LogFollower(self._account, functions, shown).lines(follow=follow, poll_s=self._poll_s)

    def reports(
        self,
        name: str,
        *,
        stage: str = DEFAULT_STAGE,
        model: str | None = None,
        slice: int | None = None,
        since_ms: int = 0,
        until_ms: int | None = None,
    ) -> Reports:
        """What the logs say that the functions of all models, or of one, did in a span of time: ms since 1970.

        Lines reach CloudWatch some seconds after a request.

        Raises:
            NotDeployedError: Nothing is deployed under this name, or not this model.
            UsageError: It has no such slice, or several models, and none is named.
            RemoteError: AWS refuses.
        """
        names = self._deployed.names(name, stage)
        record, _ = self._deployed.found(names)
        functions, shown = logging_functions(names, record, model, slice)
        lines = report_lines(self._account, functions, shown, since_ms=since_ms, until_ms=until_ms)
        models = {function.name: function.model for function in record.deployment.version.functions}
        found = read_invocations(lines, models, since_ms=since_ms, until_ms=until_ms)
        return Reports(record.settings.architecture, found, self.region)

    def rollback(self, name: str, *, stage: str = DEFAULT_STAGE, to: int | None = None) -> Deployment:
        """Let the version before the live one, or a given one that is kept, answer; all slices change together.

        Raises:
            NotDeployedError: Nothing is deployed under this name, or not in the version `to`.
            UsageError: There is no earlier version.
            RemoteError: AWS refuses; then nothing has changed.
        """
        names = self._deployed.names(name, stage)
        record, outputs = self._deployed.found(names)
        found = record.deployment
        if to is None:
            earlier = [version.number for version in found.versions if version.number < found.live]
            if not earlier:
                raise UsageError(
                    f"`{found.key}` has no version before {found.live}", hint=f"the last {VERSIONS_KEPT} are kept"
                )
            to = earlier[-1]
        record = record.at(to)
        self._update(names, record, outputs)
        return self._finished(names, record, outputs)

    def set_alias(self, name: str, alias: str, *, to: int | str | None, stage: str = DEFAULT_STAGE) -> Deployment:
        """Let a name stand for a version, which is kept as long as it does; with `to=None`, no longer.

        It is a name for requests through Lamella: functions on AWS get no alias for it.

        Raises:
            NotDeployedError: Nothing is deployed under this name, or not in this version; or there is no such alias.
            UsageError: The alias is no name, or one that means something else.
            RemoteError: AWS refuses.
        """
        record, outputs = self._deployed.found(self._deployed.names(name, stage))
        record = replace(record, deployment=record.deployment.with_alias(alias, to))
        DeploymentBucket(self._account, outputs["Bucket"]).write(KEY, written(record))
        return record.deployment

    def delete(self, name: str, *, stage: str = DEFAULT_STAGE) -> None:
        """End it, and leave nothing behind: AWS is asked whether there is anything.

        Raises:
            NotDeployedError: Nothing is deployed under this name.
            RemoteError: Something cannot be deleted; the text names it.
        """
        names = self._deployed.names(name, stage)
        if self._stacks.find(names.stack) is None:
            raise self._deployed.nothing(names)
        self._deployed.outputs(names)
        removed = self._remove(names)
        for _ in range(_LOOKS):
            left = leftovers(self._account, removed)
            if not left:
                return
            time.sleep(self._poll_s)
        raise RemoteError(
            f"of `{key_of(name, stage)}` there is still {', '.join(left)}", hint="delete it again, or by hand"
        )

    def _remove(self, names: Names) -> list[Resource]:
        return remove(self._account, self._stacks, names, told=self._told, poll_s=self._poll_s)

    def _undo(self, names: Names, error: Exception) -> None:
        """Remove what a first deployment has made before it failed."""
        try:
            self._remove(names)
        except LamellaError as other:
            raise RemoteError(
                f"{error}; and what was made until then could not be removed: {other}",
                hint=f"{other.hint or 'see the reason'}; what is there is used by the next run, or `lamella delete`d",
            ) from error

    def _settings_of(self, wanted: Wanted) -> Settings:
        settings = replace(self._settings, delivery=wanted.delivery, temporary_mb=wanted.temporary_mb)
        settings.check()
        return settings

    def _version(self, wanted: Wanted, number: int, built: Sequence[BuiltModel], bucket: DeploymentBucket) -> Version:
        return Version(
            number=number,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            models=tuple(model.deployed() for model in built),
            delivery=wanted.delivery,
            cold=wanted.cold,
            environment=dict(wanted.environment),
            mount=None,
            store=bucket.uri,
            functions=functions_of(wanted, built),
        )


def _check(settings: Settings, release: Release, found: Record | None) -> None:
    """Refuse a release that cannot run, or not in the same stack with those before."""
    check_release(settings, release)
    check_kept((*(() if found is None else found.releases), release))
