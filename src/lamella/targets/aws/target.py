"""Deployments on AWS: each a CloudFormation stack, whose bucket holds all that is known of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from lamella.errors import LamellaError, RemoteError, UsageError
from lamella.targets.aws.account import Account
from lamella.targets.aws.asking import Asking
from lamella.targets.aws.bucket import DeploymentBucket
from lamella.targets.aws.checks import check_release
from lamella.targets.aws.following import LogFollower
from lamella.targets.aws.history import known, numbered, reserved, with_version
from lamella.targets.aws.intrinsics import Json
from lamella.targets.aws.leftovers import leftovers
from lamella.targets.aws.loading import Loading, LoadingError
from lamella.targets.aws.mounts import loader_digest
from lamella.targets.aws.naming import Names
from lamella.targets.aws.network_interfaces import delete_stack
from lamella.targets.aws.preflight import check_network, check_quotas
from lamella.targets.aws.record import KEY, Record, read_record, written
from lamella.targets.aws.release import Release, ZipCode
from lamella.targets.aws.releasing import (
    ANY_STORE,
    PACKAGES,
    Releasing,
    build,
    check_wanted,
    weights_bytes,
)
from lamella.targets.aws.settings import Settings
from lamella.targets.aws.stacks import Progress, Resource, Stacks
from lamella.targets.aws.template import foundation, mount_of, published, template
from lamella.targets.aws.template import written as text_of
from lamella.targets.base import (
    DEFAULT_STAGE,
    VERSIONS_KEPT,
    Change,
    Deployment,
    LogLine,
    NotDeployedError,
    Version,
    Wanted,
    key_of,
)
from lamella.targets.building import BuiltModel, functions_of
from lamella.targets.changes import changes
from lamella.workflow.request import Answer

_TAG, _STAGE_TAG = "lamella:deployment", "lamella:stage"
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
        told: Called with each thing that happens while a stack changes.
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

    def diff(self, wanted: Wanted) -> list[Change]:
        """What `apply` would change. Builds the packages, and changes nothing else."""
        return list(self.preview(wanted).changes)

    def preview(self, wanted: Wanted) -> Preview:
        """The same, with what would be deployed, from which its price can be estimated."""
        check_wanted(wanted)
        names, settings = self._names(wanted.name, wanted.stage), self._settings_of(wanted)
        found = self._read(names)
        if wanted.delivery == "object-store" and found is None:
            wanted = replace(wanted, delivery="package")  # there is no bucket yet that weights could go to
        built = build(wanted, settings, ANY_STORE if found is None else found.deployment.store)
        release = Releasing(names, settings, None).release(1, wanted, built)
        check_release(settings, release)
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
            LamellaError: The slices cannot be packaged.
        """
        check_wanted(wanted)
        names, settings = self._names(wanted.name, wanted.stage), self._settings_of(wanted)
        self._stacks.settle(names.stack)
        outputs = self._outputs(names)
        check_mount(wanted, settings, outputs)
        found = None if outputs is None else self._record(names, outputs)
        try:
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
        # What is wrong is found before anything is made; only weights that go to the bucket need it first.
        early = self._built(wanted, names, settings, found) if wanted.delivery != "object-store" else None
        if settings.mount is not None and (outputs is None or mount_of(outputs) is None):
            check_network(self._account)
        outputs = self._founded(names, settings, outputs, found)
        built = early or self._built(wanted, names, settings, found)
        bucket = DeploymentBucket(self._account, outputs["Bucket"])
        if settings.mount is not None:
            self._loading(outputs).bring([file for model in built for each in model.packages for file in each.mounted])
        release = published(names, settings, Releasing(names, settings, bucket).release(number, wanted, built))
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
            self._remove(names)  # what an earlier run could not make
            return self._changed(names, settings, foundation(names, settings))
        if settings.mount is None or not _lacks_mount(settings, outputs):
            return outputs
        if found is None:
            return self._changed(names, settings, foundation(names, settings))
        whole = template(names, found.settings, found.releases, live=found.deployment.live, mount=settings.mount)
        return self._changed(names, found.settings, whole, DeploymentBucket(self._account, outputs["Bucket"]))

    def _loading(self, outputs: Mapping[str, str]) -> Loading:
        """What brings files to the deployment's file system."""
        store = self._account.store(f"s3://{outputs['Bucket']}")
        return Loading(self._account, store, outputs.get("Loader"), told=self._told, poll_s=self._poll_s)

    def _built(self, wanted: Wanted, names: Names, settings: Settings, found: Record | None) -> list[BuiltModel]:
        """The models as packages, once nothing speaks against deploying them."""
        built = build(wanted, settings, f"s3://{names.bucket}")
        release = Releasing(names, settings, None).release(1, wanted, built)
        check_release(settings, release)
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
        numbers = {logical: arn.rpartition(":")[2] for logical, arn in self._versions(names).items()}
        record, bucket = numbered(record, numbers), DeploymentBucket(self._account, outputs["Bucket"])
        bucket.write(KEY, written(record))
        kept = [function for entries in record.functions.values() for function in entries]
        needed = {function.code.key for function in kept if isinstance(function.code, ZipCode)}
        needed |= {key for function in kept for key in function.weights}
        bucket.remove([key for place in (PACKAGES, _WEIGHTS) for key in bucket.keys(place) if key not in needed])
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
        names = self._names(name, stage)
        record, outputs = self._found(names)
        asked = record if version is None else record.at(version)
        deployed = asked.deployment.model(model)
        asking = Asking(self._account, self._account.store(asked.deployment.store), outputs)
        if slice is None and asked.deployment.live == record.deployment.live:
            return asking.workflow(deployed, inputs)
        with asking.chain(deployed, self._arns(names, asked)) as chain:
            if slice is None:
                return chain.infer(inputs, request_id=request_id)
            return chain.infer_slice(slice, inputs, request_id=request_id)

    def status(self) -> Sequence[Deployment]:
        """Everything that is deployed in this account and region, by name and stage."""
        found = []
        for _, tags in self._stacks.named({_TAG: None, _STAGE_TAG: None}):
            record = self._read(self._names(tags[_TAG], tags[_STAGE_TAG]))
            if record is not None:
                found.append(record.deployment)
        return sorted(found, key=lambda deployment: deployment.key)

    def find(self, name: str, *, stage: str = DEFAULT_STAGE) -> Deployment:
        """What is deployed under a name.

        Raises:
            NotDeployedError: Nothing is.
        """
        return self._found(self._names(name, stage))[0].deployment

    def outputs(self, name: str, *, stage: str = DEFAULT_STAGE) -> Mapping[str, str]:
        """What a deployment's stack says: its doors, its bucket, its workflows.

        Raises:
            NotDeployedError: Nothing is deployed under this name.
        """
        return self._found(self._names(name, stage))[1]

    @property
    def region(self) -> str:
        """Where it deploys to."""
        return self._account.region

    def stack_of(self, name: str, *, stage: str = DEFAULT_STAGE) -> str:
        """The name of a deployment's stack, whether there is one or not."""
        return self._names(name, stage).stack

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
        names = self._names(name, stage)
        record, _ = self._found(names)
        if model is not None or slice is not None:
            model = record.deployment.model(model).name
        functions = [
            function
            for function in record.release.functions
            if model in (None, function.model) and slice in (None, function.slice)
        ]
        if not functions:
            known = ", ".join(str(function.slice) for function in record.release.functions if not function.is_door)
            raise UsageError(f"there is no slice {slice}", hint=f"the slices are {known}")
        shown = {names.function(one.name): one.name for one in record.deployment.version.functions}
        return LogFollower(self._account, functions, shown).lines(follow=follow, poll_s=self._poll_s)

    def rollback(self, name: str, *, stage: str = DEFAULT_STAGE, to: int | None = None) -> Deployment:
        """Let the version before the live one, or a given one that is kept, answer; all slices change together.

        Raises:
            NotDeployedError: Nothing is deployed under this name, or not in the version `to`.
            UsageError: There is no earlier version.
            RemoteError: AWS refuses; then nothing has changed.
        """
        names = self._names(name, stage)
        record, outputs = self._found(names)
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
        record, outputs = self._found(self._names(name, stage))
        record = replace(record, deployment=record.deployment.with_alias(alias, to))
        DeploymentBucket(self._account, outputs["Bucket"]).write(KEY, written(record))
        return record.deployment

    def delete(self, name: str, *, stage: str = DEFAULT_STAGE) -> None:
        """End it, and leave nothing behind: AWS is asked whether there is anything.

        Raises:
            NotDeployedError: Nothing is deployed under this name.
            RemoteError: Something cannot be deleted; the text names it.
        """
        names = self._names(name, stage)
        if self._stacks.find(names.stack) is None:
            raise self._nothing(names)
        self._outputs(names)
        removed = self._remove(names)
        for _ in range(_LOOKS):
            left = leftovers(self._account, removed)
            if not left:
                return
            time.sleep(self._poll_s)
        raise RemoteError(
            f"of `{key_of(name, stage)}` there is still {', '.join(left)}", hint="delete it again, or by hand"
        )

    def _undo(self, names: Names, error: Exception) -> None:
        """Remove what a first deployment has made before it failed."""
        try:
            self._remove(names)
        except LamellaError as other:
            raise RemoteError(
                f"{error}; and what was made until then could not be removed: {other}",
                hint="run it again, or `lamella delete`",
            ) from error

    def _remove(self, names: Names) -> list[Resource]:
        """Delete a stack with all that is in it; returns what that was. What CloudFormation did not make stays."""
        resources = self._stacks.resources(names.stack)
        for resource in resources:
            if resource.kind == "AWS::S3::Bucket":
                DeploymentBucket(self._account, resource.physical).empty()
        networks = [resource.physical for resource in resources if resource.kind == "AWS::EC2::VPC"]
        delete_stack(self._account, self._stacks, names.stack, networks, told=self._told, poll_s=self._poll_s)
        for resource in resources:
            if resource.kind == "AWS::Logs::LogGroup":  # a function may have written while it was being deleted
                missing, group = "ResourceNotFoundException", resource.physical
                self._account.try_call("logs", "delete_log_group", missing, logGroupName=group)
        return resources

    def _names(self, name: str, stage: str) -> Names:
        return Names(name, stage, self._account.region, self._account.number)

    def _settings_of(self, wanted: Wanted) -> Settings:
        settings = replace(self._settings, delivery=wanted.delivery, temporary_mb=wanted.temporary_mb)
        settings.check()
        return settings

    def _found(self, names: Names) -> tuple[Record, dict[str, str]]:
        outputs = self._outputs(names, or_nothing=True)
        record = None if outputs is None else self._record(names, outputs)
        if record is None or outputs is None:
            raise self._nothing(names)
        return record, outputs

    def _read(self, names: Names) -> Record | None:
        outputs = self._outputs(names)
        return None if outputs is None else self._record(names, outputs)

    def _outputs(self, names: Names, *, or_nothing: bool = False) -> dict[str, str] | None:
        """What the deployment's stack says; None where there is none.

        Raises:
            UsageError: The stack of this name is another deployment's, unless that counts as none.
        """
        stack = self._stacks.find(names.stack)
        if stack is None:
            return None
        name, stage = stack.tags.get(_TAG), stack.tags.get(_STAGE_TAG)
        if (name, stage) == (names.name, names.stage):
            return stack.outputs
        if or_nothing or (stack.outputs is None and name is None):  # with no tags yet, it was never begun
            return None
        whose = f"`{key_of(name, stage)}`" if name and stage else "somebody else"
        raise UsageError(f"the stack `{names.stack}` is there already, and {whose} made it", hint="choose another name")

    def _record(self, names: Names, outputs: Mapping[str, str]) -> Record | None:
        """What is deployed: the stack itself says which version is live; None where it was never finished."""
        if "Release" not in outputs:
            return None
        bucket = DeploymentBucket(self._account, outputs["Bucket"])
        text = bucket.read(KEY)
        if text is None:
            raise LamellaError(
                f"the stack `{names.stack}` has lost its record `s3://{bucket.name}/{KEY}`", hint="delete it"
            )
        return known(read_record(text, f"s3://{bucket.name}/{KEY}"), int(outputs["Release"]))

    def _nothing(self, names: Names) -> NotDeployedError:
        where = f"in `{names.region}` of account {names.account}"
        return NotDeployedError(
            f"nothing is deployed as `{key_of(names.name, names.stage)}` {where}",
            hint="`lamella status --target aws` lists what is; see the region, and the credentials",
        )

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

    def _arns(self, names: Names, record: Record) -> dict[str, str]:
        """ARN of the version of each function, by the function's name in the deployment."""
        known, release = self._versions(names), record.release
        return {
            function.name: known[release.function(function.model, function.slice).version_id]
            for function in record.deployment.version.functions
        }

    def _versions(self, names: Names) -> dict[str, str]:
        """ARN of every published version in the stack, by its logical id."""
        found = self._stacks.resources(names.stack)
        return {each.logical: each.physical for each in found if each.kind == "AWS::Lambda::Version"}


def check_mount(wanted: Wanted, settings: Settings, outputs: Mapping[str, str] | None) -> None:
    """Refuse a file system of another kind than that which the stack has.

    Raises:
        UsageError: It has one.
    """
    there = None if outputs is None else mount_of(outputs)
    if there is not None and settings.mount not in (None, there):
        raise UsageError(
            f"`{key_of(wanted.name, wanted.stage)}` has a file system of the kind `{there}`, for good",
            hint=f"say `--file-system {there}`, or deploy under another name or stage",
        )


def _lacks_mount(settings: Settings, outputs: Mapping[str, str]) -> bool:
    """Whether a stack has no file system yet, or a loader of another Lamella's."""
    if settings.mount == "efs" and outputs.get("LoaderDigest") != loader_digest():
        return True
    return mount_of(outputs) != settings.mount
