"""What a row says of a result, in whatever database it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from lamella.errors import UsageError
from lamella.gateway.events.shown import shown
from lamella.gateway.events.sinks.base import Result
from lamella.runtime.forms import json_entries

COLUMNS = ("request_id", "deployment", "source", "key", "etag", "written", "outputs")
"""Columns of a table of results. `request_id` tells a repeated result from a new one."""

COLUMNS_HINT = f"give another table, or one with the columns {', '.join(COLUMNS)}"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_DEFAULT_TABLE = "results"


def row_of(result: Result) -> dict[str, object]:
    """The values of a result by column: `written` is a time, `outputs` what JSON can hold, all others are text."""
    return {
        "request_id": result.request_id,
        "deployment": result.deployment,
        "source": result.source,
        "key": result.key,
        "etag": result.etag,
        "written": datetime.now(UTC),
        "outputs": json_entries(result.outputs),
    }


def table_of(settings: Mapping[str, object], uri: str) -> str:
    """The table that a URI's settings name.

    Raises:
        UsageError: It is no name that every database takes.
    """
    table = settings.get("table", _DEFAULT_TABLE)
    if not isinstance(table, str) or not _NAME.fullmatch(table):
        raise UsageError(
            f"`{shown(uri)}` cannot be opened: `{table}` is no name of a table",
            hint="use up to 63 letters, digits and underscores, such as `?table=results`",
        )
    return table
