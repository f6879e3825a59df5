"""What is shown of fronts on a plot."""

from dataclasses import dataclass

from planner.figures.figure_axes import SPLITS, Split
from planner.figures.figure_style import Theme
from planner.settings.budget import Budget

PlanName = tuple[str, str]
"""A run's name and a plan's id, as points carry them: runs of one model share ids."""


@dataclass(frozen=True, kw_only=True)
class FrontView:
    """What is shown of fronts, and how."""

    x: str
    """A column of a table of plans: a cost, its share of the dense model's, or a quality."""
    y: str = "kl"
    colour: str | None = None
    budget: Budget | None = None
    """Its limits on the axes shown are shaded."""
    best: PlanName | None = None
    """The plan that is best within it."""
    selected: tuple[PlanName, ...] = ()
    shows_dominated: bool = True
    splits: tuple[Split, ...] = tuple(SPLITS)
    theme: Theme = "light"
