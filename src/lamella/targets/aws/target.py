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
from lamella.targets.aws.following import LogFollower, logging_functions, report_lines
from lamella.targets.aws.history import known, numbered, reserved, with_version
from lamella.targets.aws.later import LaterAnswer, LaterRequests
from lamella.targets.aws.leftovers import leftovers
from lamella.targets.aws.naming import Names
from lamella.targets.aws.preflight import check_images, check_quotas
from lamella.targets.aws.record import KEY, Record, read_record, written
from lamella.targets.aws.release import ImageCode, Release, ZipCode
from lamella.targets.aws.releasing import ANY_STORE, PACKAGES, Releasing, build, check_wanted
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
    NotDeployedError,
    Version,
    Wanted,
    key_of,
)
from lamella.targets.building import BuiltModel, functions_of
from lamella.targets.changes import changes
from lamella.targets.reports import Reports, read_invocations
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
    """

    changes: tuple[Change, ...]
    settings: Settings
    release: Release


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
        self._settings, self._told, self._poll_s = settings, told, poll_s
        self._account = account or Account(settings.region, profile=settings.profile)
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
        _check(settings, release, found)
        there = None if found is None else found.deployment
        return Preview(tuple(changes(there, functions_of(wanted, built))), settings, release)

    def apply(self, wanted: Wanted) -> Deployment:
        """Deploy a new version of all functions, and let it answer as soon as all of them are there.

        What cannot be made leaves nothing behind, and what cannot be changed is as it was before. A run that was
        interrupted is gone on with by the next one.

        Raises:
            UsageError: What is wanted contradicts itself.
            PlanError: The platform, or the account's quotas, do not allow what is wanted.
            RemoteError: AWS refuses.
            RegistryError: Images cannot be pushed, or their base cannot be fetched.
            LamellaError: The slices cannot be packaged.
        """
        check_wanted(wanted)
        names, settings = self._names(wanted.name, wanted.stage), self._settings_of(wanted)
        self._stacks.settle(names.stack)
        outputs = self._outputs(names)
        found = None if outputs is None else self._record(names, outputs)
        try:
            with in_use():
                return self._apply(wanted, names, settings, outputs, found)
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
        tags, number = names.tags(dict(settings.tags)), 1 if found is None else max(found.functions) + 1
        # What is wrong is found before anything is made; only weights that go to the bucket need it first.
        early = self._built(wanted, names, settings, found) if wanted.delivery in ("package", "image") else None
        outputs = self._places(names, settings, outputs, found, tags)
        built = early or self._built(wanted, names, settings, found)
        bucket = DeploymentBucket(self._account, outputs["Bucket"])
        uri = outputs.get("Repository", "")
        repository = DeploymentRepository(self._account, names.repository, uri, told=self._told)
        made = Releasing(names, settings, bucket, repository).release(number, wanted, built)
        release = published(names, settings, made)
        version = self._version(wanted, number, built, bucket)
        record = with_version(found, wanted, settings, version, release)
        bucket.write(KEY, written(record.at(number if found is None else found.deployment.live)))
        self._update(names, record, bucket, tags)
        return self._finished(names, record, bucket)

    def _places(
        self,
        names: Names,
        settings: Settings,
        outputs: Mapping[str, str] | None,
        found: Record | None,
        tags: Mapping[str, str],
    ) -> Mapping[str, str]:
        """What the stack says, once it has a place for what is delivered, beside what is deployed already."""
        if outputs is not None and (settings.delivery != "image" or "Repository" in outputs):
            return outputs
        if outputs is None or found is None:
            if outputs is None:
                self._remove(names)  # what an earlier run could not make
            return self._stacks.apply(names.stack, text_of(foundation(names, settings)), tags=tags)
        also = {**found.chosen, max(found.chosen): replace(found.settings, delivery=settings.delivery)}
        bucket = DeploymentBucket(self._account, outputs["Bucket"])
        return self._update(names, replace(found, chosen=also), bucket, tags)

    def _built(self, wanted: Wanted, names: Names, settings: Settings, found: Record | None) -> list[BuiltModel]:
        """The models as packages, once nothing speaks against deploying them."""
        built = build(wanted, settings, f"s3://{names.bucket}")
        release = Releasing(names, settings, None).release(1, wanted, built)
        _check(settings, release, found)
        if wanted.delivery == "image":
            check_images(self._account)
        check_quotas(self._account, settings, release, reserved=reserved(found))
        return built

    def _update(
        self, names: Names, record: Record, bucket: DeploymentBucket, tags: Mapping[str, str]
    ) -> Mapping[str, str]:
        """Have the stack hold what a record says; returns its outputs."""
        live = record.deployment.live
        text = text_of(template(names, record.settings, record.releases, live=live))
        return self._stacks.apply(
            names.stack, text, tags=tags, place=lambda long: bucket.write(_TEMPLATE, long.encode())
        )

    def _finished(self, names: Names, record: Record, bucket: DeploymentBucket) -> Deployment:
        """Keep what is deployed now, with the numbers that AWS gave to versions."""
        numbers = {logical: arn.rpartition(":")[2] for logical, arn in self._versions(names).items()}
        record = numbered(record, numbers)
        bucket.write(KEY, written(record))
        kept = [function for entries in record.functions.values() for function in entries]
        needed = {function.code.key for function in kept if isinstance(function.code, ZipCode)}
        needed |= {key for function in kept for key in function.weights}
        bucket.remove([key for place in (PACKAGES, _WEIGHTS) for key in bucket.keys(place) if key not in needed])
        if any(settings.delivery == "image" for settings in record.chosen.values()):
            images = {function.code.digest for function in kept if isinstance(function.code, ImageCode)}
            DeploymentRepository(self._account, names.repository).keep(images)
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
        record, outputs = self._found(self._names(name, stage))
        store, asynchronous = self._account.store(record.deployment.store), record.settings.asynchronous
        later = LaterRequests(self._account, store, outputs, record.deployment, asynchronous=asynchronous)
        return later, record.deployment

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
        functions, shown = logging_functions(names, self._found(names)[0], model, slice)
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
        names = self._names(name, stage)
        record, _ = self._found(names)
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
        record, bucket = record.at(to), DeploymentBucket(self._account, outputs["Bucket"])
        self._update(names, record, bucket, names.tags(dict(record.settings.tags)))
        return self._finished(names, record, bucket)

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
                hint=f"{other.hint or 'see the reason'}; what is there is used by the next run, or `lamella delete`d",
            ) from error

    def _remove(self, names: Names) -> list[Resource]:
        """Delete a stack with all that is in it; returns what that was. What CloudFormation did not make stays."""
        resources = self._stacks.resources(names.stack)
        for resource in resources:
            if resource.kind == "AWS::S3::Bucket":
                DeploymentBucket(self._account, resource.physical).empty()
        self._stacks.delete(names.stack)
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


def _check(settings: Settings, release: Release, found: Record | None) -> None:
    """Refuse a release that cannot run, or not in the same stack with those before."""
    check_release(settings, release)
    check_kept((*(() if found is None else found.releases), release))
