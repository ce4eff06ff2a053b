"""`lamella rollback`: the version before the live one answers again."""

from __future__ import annotations

from lamella.cli import output
from lamella.cli.deployments import Name, Stage, find, key, print_functions, service
from lamella.cli.options import Json


def rollback(name: Name, *, stage: Stage = None, json: Json = False) -> None:
    """Let the version before the live one answer again."""
    deployment = find(*key(name, stage))
    found = service().call("POST", f"/lamella/deployments/{deployment.key}/rollback")
    if json:
        output.json_object("lamella.rollback/1", found)
        return
    output.facts([("deployment", deployment.key), ("version", f"{found['version']}, before it {deployment.live}")])
    output.line()
    print_functions(found["functions"])
