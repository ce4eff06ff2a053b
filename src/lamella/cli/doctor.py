"""`lamella doctor`: what the local platform can hold functions to on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from lamella.cli import output
from lamella.cli.options import Json

if TYPE_CHECKING:
    from lamella.gateway.address import Address
    from lamella.targets.local.enforcement import Enforced


def doctor(*, json: Json = False) -> None:
    """Show which limits the local platform enforces here, how, and what would let the others hold."""
    from lamella.gateway.starting import running_service
    from lamella.targets.local.enforcement import enforcement
    from lamella.targets.local.sandbox import detect
    from lamella.targets.state import home_folder

    with output.status("trying what this machine allows"):
        means = detect()
        found = enforcement(means)
    home = home_folder()
    address = running_service(home)
    if json:
        content = {
            "enforced": [asdict(one) for one in found],
            "isolation": means.isolation,
            "reasons": list(means.reasons),
            "home": str(home),
            "service": None
            if address is None
            else {"url": address.url, "pid": address.pid, "version": address.version},
        }
        output.json_object("lamella.doctor/1", content)
        return
    _print(found)
    for reason in means.reasons:
        output.message(f"note: {reason}")
    output.line()
    output.facts([("home", str(home)), ("service", _service(address))])


def _print(found: tuple[Enforced, ...]) -> None:
    rows = [(one.limit, one.enforced, one.how, one.hint or "") for one in found]
    output.table(["limit", "enforced", "how", "to have more"], rows)


def _service(address: Address | None) -> str:
    return "does not run; it starts when it is needed" if address is None else f"{address.url}, process {address.pid}"
