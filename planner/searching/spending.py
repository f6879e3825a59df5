"""What a search may spend, and has spent."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from planner.runs.records import Evaluation

StopReason = Literal["evaluations", "tokens", "minutes", "exhausted"]


TINY = 1e-9


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far a search goes; whichever is reached first, counted from the run's beginning."""

    evaluations: int | None = None
    tokens: int | None = None
    minutes: float | None = None

    @property
    def most_evaluations(self) -> int:
        """The limit on plans, beyond any count where there is none."""
        return sys.maxsize if self.evaluations is None else self.evaluations


@dataclass(frozen=True, kw_only=True)
class SearchProgress:
    """How far a search has come."""

    done: int
    """Plans of this search so far, those found in the run's store included."""
    share: float
    """Of the way to the nearest limit, from 0 to 1."""
    tokens: int
    """Candidate tokens of this search so far."""
    latest: Evaluation
    whole: bool
    """Whether the latest has come to all of the text, as a plan that may stand on the front."""
    seconds: float
    """Spent since the run's beginning, but for what was scored only to be shown."""
    eta_seconds: float | None
    """Left at this session's pace; ``None`` before the first plan was scored."""


OnProgress = Callable[[SearchProgress], None]
"""Called as each plan lands on a rung."""


class LimitReached(Exception):  # noqa: N818  (not an error)
    """Ends a search from within a race."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason: StopReason = reason
