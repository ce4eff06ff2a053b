"""Running slices as their plan requires."""

from lamella.workflow.pipeline import Pipeline

__all__ = ["Pipeline"]
