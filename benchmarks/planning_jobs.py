"""What `planning.py` measures in fresh processes. A job imports, yields, and works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe import Job

if TYPE_CHECKING:
    from lamella.planner.goal import Objective


def plan(model: str, platform: str, objective: Objective) -> Job:
    """Read the structure, and plan for a platform."""
    import lamella

    yield
    found = lamella.plan(lamella.load(model), platform=platform, objective=objective)
    return {"slices": len(found.slices), "crossing_bytes": sum(found.crossing_bytes)}
