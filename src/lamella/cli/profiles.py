"""The profile that lies beside a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli import output
from lamella.errors import PlanError

if TYPE_CHECKING:
    from lamella.graph.model import Model
    from lamella.planner.profile import Profile


def profile_beside(model: Model) -> Profile | None:
    """The model's profile, if there is one; of one that is not of this model, a warning says so."""
    from lamella.planner.profile import profile_path, read_profile

    path = profile_path(model.path)
    if not path.exists():
        return None
    try:
        return read_profile(path, model)
    except PlanError as error:
        output.warning(f"{error.message}; planning without it")
        return None
