"""Where a model is cut, and what each slice needs."""

from lamella.planner.plan import Plan, Slice, plan
from lamella.planner.plan_file import read_plan, write_plan

__all__ = ["Plan", "Slice", "plan", "read_plan", "write_plan"]
