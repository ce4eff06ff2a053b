"""From a URI to a sink."""

from __future__ import annotations

from lamella.errors import UsageError
from lamella.gateway.events.deployed import Find
from lamella.gateway.events.shown import shown
from lamella.gateway.events.sinks.base import Sink
from lamella.gateway.events.sinks.deployment import DeploymentSink
from lamella.gateway.events.sinks.objects import ObjectSink
from lamella.gateway.events.sinks.sql import DRIVERS as SQL_DRIVERS
from lamella.gateway.events.sinks.sql import open_sql
from lamella.gateway.events.sinks.sqlite import open_sqlite
from lamella.gateway.events.sinks.webhook import WebhookSink
from lamella.gateway.events.trigger import DEPLOYMENT_SCHEME, THEN
from lamella.runtime.forms import Form
from lamella.stores.opening import open_store
from lamella.targets.addresses import read_address
from lamella.targets.state import check_name

_STORES = ("file", "s3")
_JSON_ONLY = ("sqlite", "http", "https", *SQL_DRIVERS)


def open_sink(uri: str, form: Form, find: Find) -> Sink:
    """The sink behind a URI. Connects to nothing yet.

    Args:
        uri: As `Trigger.output`.
        form: How results become objects; rows and webhooks are JSON.
        find: Finds other deployments.

    Raises:
        UsageError: There is no such kind of sink, or it takes no such form.
        MissingDependencyError: It needs a library that is not installed.
    """
    if uri.startswith(DEPLOYMENT_SCHEME):
        return _deployment(uri, form, find)
    scheme = uri.partition("://")[0].partition("+")[0]
    if scheme in _STORES:
        return ObjectSink(open_store(uri), form)
    if scheme in _JSON_ONLY and form != "json":
        raise UsageError(f"`{scheme}` takes results as `json`, not as `{form}`", hint="leave `--as` out")
    if scheme == "sqlite":
        return open_sqlite(uri)
    if scheme in SQL_DRIVERS:
        return open_sql(uri)
    if scheme in ("http", "https"):
        return WebhookSink(uri)
    raise UsageError(
        f"results cannot go to `{shown(uri)}`: `{scheme}` is not known",
        hint="outputs are `file://`, `s3://`, `sqlite://`, `postgresql://`, `mysql://`, `mariadb://`, `http://`, "
        "`https://` and `deployment://`",
    )


def _deployment(uri: str, form: Form, find: Find) -> Sink:
    key, _, then = uri.removeprefix(DEPLOYMENT_SCHEME).partition(THEN)
    address = read_address(key)
    check_name(address.name, "name")
    check_name(address.stage, "stage")
    if address.model is not None:
        check_name(address.model, "name for a model")
    if not then:
        raise UsageError(
            f"`{uri}` does not say where the results of `{key}` go", hint=f"give `{uri}{THEN}URI`, the last thing in it"
        )
    return DeploymentSink(str(address), find, open_sink(then, form, find))
