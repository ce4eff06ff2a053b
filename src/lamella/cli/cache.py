"""`lamella cache`: the packages that were built, how much they take, and making room."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lamella.cli import output
from lamella.cli.options import Json
from lamella.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.packaging.inventory import Kept

_DIGITS = 12  # of a digest

cache = typer.Typer(
    name="cache",
    help="Show what was built and kept, remove what is old, or check all of it.",
    rich_markup_mode="markdown",
    invoke_without_command=True,
)


@cache.callback()
def show(context: typer.Context, *, json: Json = False) -> None:
    """Show the cache of packages: where it is, how large, what lies in it. `prune` and `verify` remove from it."""
    if context.invoked_subcommand is not None:
        return
    from lamella.packaging.cache import cache_folder
    from lamella.packaging.inventory import disk_bytes, inventory

    found, folder = inventory(), cache_folder()
    if json:
        content = {"folder": str(folder), "bytes": disk_bytes(found), "kept": _listed(found)}
        output.json_object("lamella.cache/1", content)
        return
    output.facts([("folder", str(folder)), ("size", f"{output.size(disk_bytes(found))}, shared files counted once")])
    if found:
        output.line()
        _print(found)


@cache.command("prune")
def prune(
    *,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", metavar="DAYS", min=0, help="What was not used for so long; 30 by default."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything, however new.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Remove packages that were not used for long. What is deployed here stays; what is needed again is built again."""
    from lamella.packaging import pruning

    if everything and older_than is not None:
        raise UsageError("`--all` and `--older-than` contradict each other", hint="give one of them")
    days = 0.0 if everything else pruning.OLDER_THAN_DAYS if older_than is None else older_than
    pruned = pruning.prune(older_than_days=days, dry_run=True)
    if not dry_run and pruned.removed:
        if not yes:
            _print(pruned.removed)
            output.message(f"this removes {len(pruned.removed)} item(s) and frees {output.size(pruned.freed_bytes)}")
            if not output.confirmed("go on?"):
                raise UsageError("nothing was removed", hint="say `--yes` to go on without being asked")
        with output.status("removing"):
            pruned = pruning.prune(older_than_days=days)
    if json:
        content = {"dry_run": dry_run, "freed_bytes": pruned.freed_bytes, "removed": _listed(pruned.removed)}
        output.json_object("lamella.cache.prune/1", content)
        return
    if dry_run and pruned.removed:
        _print(pruned.removed)
    done = "would be removed" if dry_run else "removed"
    output.message(f"{len(pruned.removed)} item(s) {done}, {output.size(pruned.freed_bytes)} freed")


@cache.command("verify")
def verify(*, json: Json = False) -> None:
    """Compare everything in the cache with its digests, and remove what is damaged. Exit status 1 if something was."""
    from lamella.packaging import pruning

    with output.status("reading the cache"):
        found = pruning.verify()
    if json:
        output.json_object("lamella.cache.verify/1", {"intact": len(found.intact), "removed": _listed(found.damaged)})
    else:
        if found.damaged:
            _print(found.damaged)
        output.message(f"{len(found.intact)} item(s) are intact, {len(found.damaged)} were damaged and are removed")
    if found.damaged:
        raise typer.Exit(1)


def _listed(found: Sequence[Kept]) -> list[dict[str, object]]:
    return [
        {
            "kind": kept.kind,
            "folder": str(kept.folder),
            "what": kept.what,
            "size": kept.size,
            "used": _date(kept).isoformat(),
        }
        for kept in found
    ]


def _print(found: Sequence[Kept]) -> None:
    rows = [
        (kept.kind, kept.folder.name[:_DIGITS], output.size(kept.size), f"{_date(kept):%Y-%m-%d %H:%M}", kept.what)
        for kept in found
    ]
    output.table(["kind", "digest", "size", "last used", "what"], rows, right=[2])


def _date(kept: Kept) -> datetime:
    return datetime.fromtimestamp(kept.used, UTC).replace(microsecond=0)
