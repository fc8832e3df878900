"""The plan check: whether a program may run, from the program and the contracts alone."""

from hearth.runtime.verify.plan.check import check
from hearth.runtime.verify.plan.shapes import PlanError

__all__ = ["PlanError", "check"]
