"""The search loop: asks, scores, records, tells; owns cache, limits, resuming and progress."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planner.budget import relative_cost
from planner.evaluation import Evaluation, Genome
from planner.run import Run
from planner.searchers.protocol import Searcher

StopReason = Literal["evaluations", "tokens", "minutes", "exhausted"]
Score = Callable[[NDArray[np.int_]], Iterator[tuple[int, Evaluation]]]
"""Scores ``(genomes, sites)``; yields each row's index and evaluation as it lands."""

_IDLE_ROUND_COUNT = 20
# a plan whose KL overflows is as bad as can be, yet finite, as searchers must compare it
_KL_CEILING = 1e3


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far a search goes; whichever is reached first, counted from the run's beginning."""

    evaluations: int
    tokens: int | None = None
    minutes: float | None = None


@dataclass(frozen=True, kw_only=True)
class Objectives:
    """What is minimised: KL, then the named costs as shares of the dense model's."""

    cost_names: tuple[str, ...]
    dense: Mapping[str, float]

    def of(self, evaluations: Sequence[Evaluation]) -> NDArray[np.float64]:
        """Objectives of evaluations, ``(evaluations, 1 + costs)``, finite."""
        return np.array([self._row(evaluation) for evaluation in evaluations], dtype=np.float64)

    def _row(self, evaluation: Evaluation) -> list[float]:
        kl = evaluation.quality["kl"].value
        shares = [relative_cost(n, evaluation.costs[n], self.dense) for n in self.cost_names]
        return [min(kl, _KL_CEILING) if math.isfinite(kl) else _KL_CEILING, *shares]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a search has come."""

    done: int
    """Plans of this search so far, those found in the run's store included."""
    total: int
    latest: Evaluation
    seconds: float
    """Spent scoring since the run's beginning."""
    eta_seconds: float | None
    """Left at this session's pace; ``None`` before the first plan was scored."""


def search_loop(
    searcher: Searcher,
    score: Score,
    run: Run,
    limits: Limits,
    objectives: Objectives,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> StopReason:
    """Search until a limit is reached or the searcher proposes nothing new.

    A run that was killed is resumed by calling this again with a new searcher of the same seed:
    what the store holds is told again in the same order, and only the rest is scored.

    Args:
        searcher: Proposes genomes; fresh, whether the run is.
        score: Scores genomes; called only with those that the run does not hold.
        run: Where each evaluation is written as it lands.
        limits: How far to go.
        objectives: What the searcher is told.
        on_progress: Called after each plan.

    Returns:
        Why it stopped.
    """
    session = _Session(score, run, limits, on_progress)
    idle_rounds = 0
    while idle_rounds < _IDLE_ROUND_COUNT:
        genomes = searcher.ask()
        batch = [tuple(int(level) for level in row) for row in genomes]
        new = [genome for genome in dict.fromkeys(batch) if genome not in session.known]
        idle_rounds = 0 if new else idle_rounds + 1
        reason = session.take(new)
        if reason is not None:
            return reason
        if batch:
            searcher.tell(genomes, objectives.of([session.known[genome] for genome in batch]))
    return "exhausted"


class _Session:
    """One sitting at a run: what is known, what was spent, whether to stop."""

    def __init__(
        self, score: Score, run: Run, limits: Limits, on_progress: Callable[[Progress], None]
    ) -> None:
        self.known: dict[Genome, Evaluation] = {}
        self._score = score
        self._run = run
        self._limits = limits
        self._on_progress = on_progress
        self._stored = {evaluation.genome: evaluation for evaluation in run.evaluations()}
        self._seconds_before = sum(evaluation.seconds for evaluation in self._stored.values())
        self._tokens = 0
        self._scored_count = 0
        self._round = -1
        self._started = time.monotonic()

    def take(self, genomes: Sequence[Genome]) -> StopReason | None:
        """Look up or score one round's new genomes, up to the limits."""
        self._round += 1
        room = self._limits.evaluations - len(self.known)
        admitted = genomes[:room]
        for evaluation in self._landings(admitted):
            self.known[evaluation.genome] = evaluation
            self._tokens += evaluation.tokens
            self._on_progress(self._progress(evaluation))
            reason = self._stop_reason()
            if reason is not None:
                return reason
        return None

    def _landings(self, genomes: Sequence[Genome]) -> Iterator[Evaluation]:
        """The stored evaluations of a round, then the others as they land, each recorded."""
        yield from (self._stored[genome] for genome in genomes if genome in self._stored)
        missing = [genome for genome in genomes if genome not in self._stored]
        if missing:
            for index, scored in self._score(np.array(missing, dtype=np.int_)):
                evaluation = replace(scored, genome=missing[index], round=self._round)
                self._run.record(evaluation)
                self._scored_count += 1
                yield evaluation

    def _stop_reason(self) -> StopReason | None:
        limits = self._limits
        if len(self.known) >= limits.evaluations:
            return "evaluations"
        if limits.tokens is not None and self._tokens >= limits.tokens:
            return "tokens"
        if limits.minutes is not None and self._seconds() >= 60 * limits.minutes:
            return "minutes"
        return None

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _progress(self, latest: Evaluation) -> Progress:
        done, total = len(self.known), self._limits.evaluations
        eta = None
        if self._scored_count:
            pace = (time.monotonic() - self._started) / self._scored_count
            eta = pace * (total - done)
            if self._limits.minutes is not None:
                eta = min(eta, max(0.0, 60 * self._limits.minutes - self._seconds()))
        return Progress(
            done=done, total=total, latest=latest, seconds=self._seconds(), eta_seconds=eta
        )
