"""The search loop: asks, races, records, tells; owns cache, limits, resuming and progress."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from evaluators.population import Members
from evaluators.racing import OPEN, Judge, Race, Verdicts, judge_front, judge_half
from evaluators.score import Score
from planner.evaluation import Evaluation, Genome
from planner.front import front
from planner.objectives import Objectives, kl_by_window
from planner.run import Run
from planner.searchers.protocol import Searcher

StopReason = Literal["evaluations", "tokens", "minutes", "exhausted"]
Racing = Literal["tests", "halving", "off"]

_IDLE_ROUND_COUNT = 20


class Scorer(Protocol):
    """Scores genomes a rung of windows at a time."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """Windows scored after each rung, ascending."""
        ...

    def score(
        self, genomes: NDArray[np.int_], rung: int | None = None
    ) -> Iterator[tuple[int, Evaluation]]:
        """Score ``(genomes, sites)`` on one rung; yield each row's index and score as it lands."""
        ...

    def expect(self, parents: NDArray[np.int_]) -> None:
        """Prepare for children of genomes ``(parents, sites)``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far a search goes; whichever is reached first, counted from the run's beginning."""

    evaluations: int
    tokens: int | None = None
    minutes: float | None = None


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


class SearchLoop:
    """One sitting at a run.

    A run that was killed is resumed by running this again with a new searcher of the same seed:
    what the store holds is told again in the same order, and only the rest is scored.

    Args:
        searcher: Proposes genomes; fresh, whether the run is.
        scorer: Scores genomes; asked only for rungs that the run does not hold.
        run: Where each evaluation is written as it lands.
        limits: How far to go.
        objectives: What the searcher is told.
        racing: How plans that are not wanted are dropped before they have seen all text.
    """

    def __init__(
        self,
        searcher: Searcher,
        scorer: Scorer,
        run: Run,
        limits: Limits,
        objectives: Objectives,
        *,
        racing: Racing = "tests",
    ) -> None:
        self._searcher = searcher
        self._scorer = scorer
        self._run = run
        self._limits = limits
        self._objectives = objectives
        self._racing = racing
        self._known: dict[Genome, Evaluation] = {}
        self._stored = {evaluation.genome: evaluation for evaluation in run.evaluations()}
        self._seconds_before = sum(e.score.seconds for e in self._stored.values())
        self._tokens = 0
        self._landed_count = 0
        self._round = -1
        self._started = time.monotonic()

    def run(self, on_progress: Callable[[Progress], None] = lambda _: None) -> StopReason:
        """Search until a limit is reached or the searcher proposes nothing new.

        Args:
            on_progress: Called as each plan lands on a rung.

        Returns:
            Why it stopped.
        """
        idle_rounds = 0
        while idle_rounds < _IDLE_ROUND_COUNT:
            genomes = self._searcher.ask()
            batch = [tuple(int(level) for level in row) for row in genomes]
            new = [genome for genome in dict.fromkeys(batch) if genome not in self._known]
            idle_rounds = 0 if new else idle_rounds + 1
            reason = self._take(new, on_progress)
            if reason is not None:
                return reason
            if batch:
                told = [self._known[genome] for genome in batch]
                known = list(self._known.values())
                self._searcher.tell(genomes, self._objectives.of(told, known))
                self._scorer.expect(self._parents())
        return "exhausted"

    def _take(
        self, genomes: Sequence[Genome], on_progress: Callable[[Progress], None]
    ) -> StopReason | None:
        """Race one round's new genomes, up to the limits."""
        self._round += 1
        admitted = genomes[: self._limits.evaluations - len(self._known)]
        costs: dict[int, list[float]] = {}
        landed: dict[int, Evaluation] = {}

        def score(members: Members, rung: int) -> Iterator[tuple[int, Score]]:
            for position, evaluation in self._landings([admitted[m] for m in members], rung):
                member = int(members[position])
                landed[member] = evaluation
                costs[member] = self._objectives.shares(evaluation)
                yield position, evaluation.score

        race = Race(self._scorer.rungs, score, self._judge(costs))
        before, climbed = len(self._known), 0
        for member, so_far in race.run(len(admitted)):
            evaluation = landed[member].scored(so_far)
            self._tokens += landed[member].score.tokens
            self._known[evaluation.genome] = evaluation
            climbed += landed[member].score.windows
            on_progress(self._progress(evaluation, before + climbed // self._scorer.rungs[-1]))
            reason = self._spent()
            if reason is not None:
                return reason
        if admitted and len(self._known) > before + climbed // self._scorer.rungs[-1]:
            on_progress(self._progress(evaluation, len(self._known)))
        return "evaluations" if len(self._known) >= self._limits.evaluations else None

    def _landings(self, genomes: Sequence[Genome], rung: int) -> Iterator[tuple[int, Evaluation]]:
        """One rung of some genomes: what is stored, then the others as they land."""
        start, stop = (0, *self._scorer.rungs)[rung : rung + 2]
        missing = []
        for position, genome in enumerate(genomes):
            stored = self._stored.get(genome)
            if stored is not None and (stored.score.windows >= stop or stored.score.failure):
                yield position, stored.scored(stored.score.upto(stop).since(start))
            else:
                missing.append(position)
        if not missing:
            return
        wanted = np.array([genomes[position] for position in missing], dtype=np.int_)
        for index, scored in self._scorer.score(wanted, rung):
            genome = genomes[missing[index]]
            evaluation = replace(scored, genome=genome, round=self._round)
            known = self._known.get(genome)
            whole = known.score.then(scored.score) if known else scored.score
            self._run.record(evaluation.scored(whole))
            self._landed_count += 1
            yield missing[index], evaluation

    def _judge(self, costs: Mapping[int, list[float]]) -> Judge:
        """Give the rule by which a round's race drops plans, against what is known so far."""
        if self._racing == "off":
            return lambda members, _values, _taken: np.full(len(members), OPEN)
        known = front(list(self._known.values()), self._objectives.cost_names)
        rivals = [rival for rival in known if rival.score.windows == self._scorer.rungs[-1]]
        shape = len(rivals), len(self._objectives.cost_names)
        values = kl_by_window(rivals)
        prices = np.array([self._objectives.shares(rival) for rival in rivals]).reshape(shape)
        looks = len(self._scorer.rungs) - 1

        def judge(members: Members, scores: NDArray[np.float64], taken: int) -> Verdicts:
            own = np.array([costs[member] for member in range(len(costs))])
            if self._racing == "halving":
                return judge_half(own, values, prices)(members, scores, taken)
            return judge_front(own, values, prices, looks=looks)(members, scores, taken)

        return judge

    def _parents(self) -> NDArray[np.int_]:
        """The plans that children are likely to come from: the front so far."""
        best = front(list(self._known.values()), self._objectives.cost_names)
        sites = len(next(iter(self._known)))
        genomes = [evaluation.genome for evaluation in best]
        return np.array(genomes, dtype=np.int_).reshape(-1, sites)

    def _spent(self) -> StopReason | None:
        limits = self._limits
        if limits.tokens is not None and self._tokens >= limits.tokens:
            return "tokens"
        if limits.minutes is not None and self._seconds() >= 60 * limits.minutes:
            return "minutes"
        return None

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _progress(self, latest: Evaluation, done: int) -> Progress:
        total = self._limits.evaluations
        eta = None
        if self._landed_count:
            pace = (time.monotonic() - self._started) / max(1, done - self._found_count())
            eta = pace * (total - done)
            if self._limits.minutes is not None:
                eta = min(eta, max(0.0, 60 * self._limits.minutes - self._seconds()))
        return Progress(
            done=done, total=total, latest=latest, seconds=self._seconds(), eta_seconds=eta
        )

    def _found_count(self) -> int:
        """Plans of this search that were in the store when it began."""
        return sum(genome in self._stored for genome in self._known)
