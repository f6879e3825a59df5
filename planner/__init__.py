"""Searching a model for the best ways to make it smaller, and exporting the one that fits.

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.recipes.compare import compare
    from planner.run import Run, search
    from planner.settings.budget import Budget
    from planner.settings.search import SearchSettings
    from planner.targets.registration import register
    from search_spaces.errors import PlannerError
    from search_spaces.space.plan import Plan

__all__ = [
    "Budget",
    "Plan",
    "PlannerError",
    "Run",
    "SearchSettings",
    "compare",
    "register",
    "search",
]

_HOMES = {
    "Budget": "planner.settings.budget",
    "Plan": "search_spaces.space.plan",
    "PlannerError": "search_spaces.errors",
    "Run": "planner.run",
    "SearchSettings": "planner.settings.search",
    "compare": "planner.recipes.compare",
    "register": "planner.targets.registration",
    "search": "planner.run",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module `planner` has no attribute `{name}`")
    return getattr(import_module(_HOMES[name]), name)
