"""What a search may spend, what it has spent, and how far it has come."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from evaluators.scoring.score import Score
from planner.runs.records import BASELINE_ROUND, Evaluation, RoundReply, SearchEffort
from planner.runs.run_store import RunStore

StopReason = Literal["evaluations", "tokens", "minutes", "exhausted"]

_TINY_SHARE = 1e-9
_NOTHING = SearchEffort(plans=0, tokens=0, seconds=0.0, choosing_seconds=0.0)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far a search goes; whichever is reached first, counted from the run's beginning."""

    evaluations: int | None = None
    tokens: int | None = None
    minutes: float | None = None

    @property
    def most_evaluations(self) -> int:
        """The limit on plans; without one, the largest integer."""
        return sys.maxsize if self.evaluations is None else self.evaluations


@dataclass(frozen=True, kw_only=True)
class SearchProgress:
    """How far a search has come."""

    done: int
    """Plans of this search so far, those replayed from the run's store included."""
    share: float
    """Of the way to the nearest limit, from 0 to 1."""
    tokens: int
    """Candidate tokens of this search so far."""
    doing: str
    """What is being done, in words: the round, how many plans, and on how much text."""
    latest: Evaluation | None
    """What was scored; `None` at the beginning of a batch."""
    is_complete: bool
    """Whether the latest is scored on all of the text, as a plan on the front must be."""
    seconds: float
    """Spent since the run's beginning, except on what was scored only to be shown."""
    eta_seconds: float | None
    """Left at this session's pace; `None` before the first plan was scored."""


OnProgress = Callable[[SearchProgress], None]
"""Called as a batch of plans begins on a rung, and as each of them lands."""


def plan_count(count: int) -> str:
    """Return a number of plans in words.

    >>> plan_count(1), plan_count(12)
    ('1 plan', '12 plans')
    """
    return f"{count} plan{'' if count == 1 else 's'}"


class LimitReached(Exception):  # noqa: N818  (not an error)
    """Ends a search from within a race."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason: StopReason = reason


def held_effort(run: RunStore) -> SearchEffort:
    """Return what it took to score all that a run holds of its search, without choosing."""
    plans = [plan for plan in run.landed() if plan.round != BASELINE_ROUND]
    scored: list[Score | RoundReply] = [plan.score for plan in plans]
    scored += run.replies().values()
    return SearchEffort(
        plans=len(plans),
        tokens=sum(each.tokens for each in scored),
        seconds=sum(each.seconds for each in scored),
        choosing_seconds=0.0,
    )


class Spending:
    """Counts what a search has taken, and ends it at its limits.

    What a run holds is replayed first, which takes no time of the limit.

    Args:
        limits: How far the search goes.
        held: What the run holds of earlier sessions.
        recorded: What the search took by the end that it came to before, if it did.
    """

    def __init__(
        self, limits: Limits, held: SearchEffort, recorded: SearchEffort | None = None
    ) -> None:
        self.limits = limits
        self.plan_count = 0
        """Plans that count for the limit so far, those that were only sampled included."""
        self.tokens = 0
        """Candidate tokens that count so far."""
        self.uncounted_seconds = 0.0
        """On what was scored only to be shown."""
        self.landed_count = 0
        """Scores of this session, which are not from the run's store."""
        self.doing = ""
        """What is being done, in words, as progress tells it."""
        self._choosing_seconds = 0.0
        self._recorded = recorded or _NOTHING
        self._seconds_before = held.seconds
        self._replayed_share = 0.0
        self._started = None if held.tokens else time.monotonic()

    @property
    def seconds(self) -> float:
        """Spent since the run's beginning, except on what was scored only to be shown."""
        return self._seconds_before + self._elapsed - self.uncounted_seconds

    @property
    def _elapsed(self) -> float:
        """Seconds since the replay."""
        return 0.0 if self._started is None else time.monotonic() - self._started

    @property
    def spent(self) -> SearchEffort:
        """All of it, as the run records it; never less than before."""
        return SearchEffort(
            plans=self.plan_count,
            tokens=self.tokens,
            seconds=max(self.seconds, self._recorded.seconds),
            choosing_seconds=max(self._choosing_seconds, self._recorded.choosing_seconds),
        )

    def begin_scoring(self, *, counted: bool = True) -> None:
        """Start the clock where the replay ends: before the first score that the run lacks.

        Args:
            counted: Whether the score is part of the search, and not only to be shown.

        Raises:
            LimitReached: If earlier sessions took all the time that there is.
        """
        if self._started is None:
            self._seconds_before = max(self.seconds, self._recorded.seconds)
            self._started, self.uncounted_seconds = time.monotonic(), 0.0
            if counted:
                self.check(plans=False)

    def add(self, score: Score, *, is_new: bool, counted: bool) -> None:
        """Add what it took to score a plan on one rung.

        Args:
            score: On the rung.
            is_new: Whether it is the plan's first rung.
            counted: Whether it is part of the search, and not scored only to be shown.
        """
        if counted:
            self.plan_count += int(is_new)
            self.tokens += score.tokens
        else:
            self.uncounted_seconds += score.seconds

    @contextmanager
    def choosing(self) -> Iterator[None]:
        """Count the time within as spent in the searcher, and not on scoring."""
        started = time.monotonic()
        yield
        self._choosing_seconds += time.monotonic() - started

    def room(self, tokens_each: int) -> int:
        """Return how many more plans the limits on plans and tokens leave room for.

        Args:
            tokens_each: That a plan takes.
        """
        limits = self.limits
        plans = limits.most_evaluations - self.plan_count
        if limits.tokens is None:
            return plans
        return min(plans, math.ceil((limits.tokens - self.tokens) / tokens_each))

    def check(self, *, plans: bool = True) -> None:
        """End the search if a limit is reached.

        Args:
            plans: Whether to check the limit on plans: a race does so only at its end.

        Raises:
            LimitReached: At a limit.
        """
        limits = self.limits
        if limits.tokens is not None and self.tokens >= limits.tokens:
            raise LimitReached("tokens")
        minutes = sys.maxsize if limits.minutes is None else limits.minutes
        if self._started is not None and self.seconds >= 60 * minutes:
            raise LimitReached("minutes")
        if plans and self.plan_count >= limits.most_evaluations:
            raise LimitReached("evaluations")

    def report(
        self,
        on_progress: OnProgress,
        latest: Evaluation | None,
        done: int,
        *,
        is_complete: bool = False,
    ) -> None:
        """Report how far the search has come, with so many plans done."""
        limits, seconds, eta = self.limits, self.seconds, None
        share = max(
            done / limits.most_evaluations,
            self.tokens / limits.tokens if limits.tokens else 0.0,
            seconds / 60 / limits.minutes if limits.minutes else 0.0,
        )
        if self.landed_count:
            pace = self._elapsed / max(share - self._replayed_share, _TINY_SHARE)
            eta = pace * max(0.0, 1.0 - share)
        else:
            self._replayed_share = share
        on_progress(
            SearchProgress(
                done=done,
                share=min(share, 1.0),
                tokens=self.tokens,
                doing=self.doing,
                latest=latest,
                is_complete=is_complete,
                seconds=seconds,
                eta_seconds=eta,
            )
        )
