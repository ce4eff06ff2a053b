"""What can be chosen about a deployment on AWS, and which choices contradict each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from lamella.platforms.base import Architecture
from lamella.runtime.function import Delivery

WorkflowKind = Literal["express", "standard", "direct", "single"]
"""How slices are joined: a Step Functions workflow of either type, each slice invoking the next, or only one slice."""

MountKind = Literal["efs", "s3-files"]

DOOR_MEMORY_MB = 256
DOOR_TIMEOUT_S = 300
DEFAULT_CONCURRENCY = 10


@dataclass(frozen=True)
class HttpApi:
    """An HTTP API, which answers within 30 s or not at all.

    Attributes:
        auth: Who may call: whom IAM allows (requests are signed), or who has a token of an issuer.
        issuer: URL of the issuer of tokens, with `jwt`.
        audiences: Whom its tokens must be meant for, with `jwt`.
    """

    auth: Literal["iam", "jwt"] = "iam"
    issuer: str | None = None
    audiences: tuple[str, ...] = ()


@dataclass(frozen=True)
class ObjectEvents:
    """Requests that are objects: each that appears under a prefix of the bucket is answered by another.

    Attributes:
        batch_size: How many one invocation may take.
        window_s: How long they are gathered.
        inputs: Where requests appear.
        results: Where answers go.
    """

    batch_size: int = 1
    window_s: int = 0
    inputs: str = "inbox/"
    results: str = "outbox/"


@dataclass(frozen=True)
class Budget:
    """A monthly sum, at 80 % of which somebody is told; again where a forecast exceeds it. It stops nothing.

    Attributes:
        usd: The sum.
        email: Who is told.
    """

    usd: float
    email: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a deployment is set up on AWS.

    Attributes:
        region: Where.
        profile: Of the user's AWS configuration; only for talking to AWS.
        architecture: Of the functions.
        python: Their Python; that of a base image must be the same.
        delivery: How the model reaches them.
        base_image: With the delivery `image`: what images stand on, the name of one in a registry or a folder with an
            OCI image layout; None: AWS Lambda's own for that Python.
        mount: With the delivery `mount`: which kind of file system.
        workflow: How slices are joined. A model of one slice needs nothing, whatever this says.
        http_api: An HTTP API as a door; None: none.
        function_url: Whether the door has a URL of its own, for whom IAM allows.
        asynchronous: Whether requests may be answered later, from the bucket: those of whoever has rights in the
            account, and those of its doors.
        s3_events: Requests that are objects in the bucket; None: none.
        keep_warm_minutes: How often each function is asked for a sign of life, so that one instance stays; None: not.
        snap_start: Whether new instances begin from a snapshot of a started one.
        provisioned_concurrency: Instances of each slice that are always there, and always paid.
        concurrency: The most instances of each function. None leaves it to the account: one whose quota has not been
            raised cannot reserve any.
        temporary_mb: Temporary storage of each slice.
        log_retention_days: How long logs are kept.
        tracing: Whether requests are traced by X-Ray.
        budget: A sum to be told about; None: none.
        tags: The user's own tags, on everything.
    """

    region: str
    profile: str | None = None
    architecture: Architecture = "x86_64"
    python: str = "3.13"
    delivery: Delivery = "package"
    base_image: str | None = None
    mount: MountKind | None = None
    workflow: WorkflowKind = "express"
    http_api: HttpApi | None = None
    function_url: bool = False
    asynchronous: bool = False
    s3_events: ObjectEvents | None = None
    keep_warm_minutes: int | None = None
    snap_start: bool = False
    provisioned_concurrency: int = 0
    concurrency: int | None = DEFAULT_CONCURRENCY
    temporary_mb: int = 512
    log_retention_days: int = 14
    tracing: bool = False
    budget: Budget | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_front_door(self) -> bool:
        """Whether a function takes requests for whole models: from outside, from the bucket, or to answer later."""
        outside = self.http_api is not None or self.function_url
        return outside or self.asynchronous or self.s3_events is not None

    def without_doors(self) -> Settings:
        """The same for a release that was made to be reached through the API of AWS alone."""
        return replace(self, http_api=None, function_url=False, asynchronous=False, s3_events=None)

    def check(self) -> None:
        """Refuse what contradicts itself, or what AWS does not offer.

        Raises:
            UsageError: The text names both sides and the limit.
        """
        from lamella.targets.aws.checks import check_settings

        check_settings(self)
