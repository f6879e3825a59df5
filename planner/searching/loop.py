"""The search loop: asks, races, records, tells; owns cache, limits, resuming and progress."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from evaluators.scoring.prefix_tree import Members
from evaluators.scoring.racing import RISK, Judge, Race, Survivors, judge_front, judge_half
from evaluators.scoring.score import Score
from planner.results.front import front
from planner.runs.records import Evaluation, Reply, Spent
from planner.runs.run_store import RunStore
from planner.searchers.protocol import Answer, Ask, Searcher
from planner.searching.objectives import Objectives, kl_by_window
from planner.searching.spending import (
    TINY,
    LimitReached,
    Limits,
    OnProgress,
    SearchProgress,
    StopReason,
)
from search_spaces.space.space import Genome

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

    def sample(
        self, genomes: NDArray[np.int_], windows: Sequence[int]
    ) -> Iterator[tuple[int, Evaluation]]:
        """Score genomes on some windows only; yield as `score` does."""
        ...

    def slopes(self, genomes: NDArray[np.int_]) -> Iterator[tuple[int, Reply]]:
        """Tell what a step to each level of each site promises, level by level, site by site."""
        ...

    def expect(self, parents: NDArray[np.int_]) -> None:
        """Prepare for children of genomes ``(parents, sites)``."""
        ...


class SearchLoop:
    """One sitting at a run.

    A run that was killed is resumed by running this again with a new searcher of the same seed:
    what the store holds is told again in the same order, and only the rest is scored.

    Args:
        searcher: Proposes genomes; fresh, whether the run is.
        scorer: Scores genomes; asked only for what the run does not hold.
        run: Where each evaluation is written as it lands.
        limits: How far to go.
        objectives: What the searcher is told.
        racing: How plans that are not wanted are dropped before they have seen all text.
    """

    def __init__(
        self,
        searcher: Searcher,
        scorer: Scorer,
        run: RunStore,
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
        self._replies = run.replies()
        spent = [e.score.seconds for e in self._stored.values()]
        self._seconds_before = sum(spent) + sum(r.seconds for r in self._replies.values())
        self._uncounted: set[Genome] = set()
        self._uncounted_seconds = 0.0
        self._sampled = 0
        self._differentiated = 0
        self._tokens = 0
        self._landed_count = 0
        self._share_found = 0.0
        self._round = -1
        self._started = time.monotonic()
        self.choosing_seconds = 0.0
        """What this sitting spent in the searcher, and not on scoring."""

    def run(self, on_progress: OnProgress = lambda _: None) -> StopReason:
        """Search until a limit is reached or the searcher proposes nothing new.

        Args:
            on_progress: Called as each plan lands on a rung.

        Returns:
            Why it stopped.
        """
        idle_rounds = 0
        try:
            while idle_rounds < _IDLE_ROUND_COUNT:
                with self._choosing():
                    ask = self._searcher.ask()
                self._round += 1
                before = self._asked_count
                if len(ask.genomes):
                    answer = self._answer(ask, on_progress)
                    with self._choosing():
                        self._searcher.tell(ask, answer)
                idle_rounds = 0 if self._asked_count > before else idle_rounds + 1
        except LimitReached as reached:
            return reached.reason
        return "exhausted"

    @property
    def spent(self) -> Spent:
        """What the search took so far."""
        return Spent(
            plans=self._plan_count,
            tokens=self._tokens,
            seconds=self._seconds(),
            choosing_seconds=self.choosing_seconds,
        )

    @property
    def _asked_count(self) -> int:
        """Plans and replies of this search so far: what grows as long as there is news."""
        return len(self._known) + self._sampled + self._differentiated

    def _answer(self, ask: Ask, on_progress: OnProgress) -> Answer:
        genomes = [tuple(int(level) for level in row) for row in ask.genomes]
        if ask.slopes:
            return self._slopes(genomes)
        if ask.windows:
            return self._sample(ask, genomes, on_progress)
        self._race(ask, genomes, on_progress)
        told = [self._known[genome] for genome in genomes]
        objectives = self._objectives.of(told, list(self._known.values()))
        self._scorer.expect(self._parents())
        seen = [evaluation.score.windows / self._scorer.rungs[-1] for evaluation in told]
        return Answer(objectives=objectives, seen=np.array(seen))

    def _slopes(self, genomes: Sequence[Genome]) -> Answer:
        missing = [genome for genome in genomes if (self._round, genome) not in self._replies]
        if missing:
            for index, reply in self._scorer.slopes(np.array(missing, dtype=np.int_)):
                self._keep(missing[index], reply)
        replies = [self._replies[self._round, genome] for genome in genomes]
        self._differentiated += len(replies)
        self._charge(sum(reply.tokens for reply in replies), plans=False)
        return Answer(
            objectives=np.empty((0, 0)),
            seen=np.empty(0),
            slopes=tuple(reply.values for reply in replies),
        )

    def _sample(self, ask: Ask, genomes: Sequence[Genome], on_progress: OnProgress) -> Answer:
        """Score genomes on windows of the searcher's own choice."""
        missing = [genome for genome in genomes if (self._round, genome) not in self._replies]
        for genome in genomes:
            if genome not in missing:
                self._sampled += 1
                self._charge(self._replies[self._round, genome].tokens)
        if missing:
            wanted = np.array(missing, dtype=np.int_)
            for index, scored in self._scorer.sample(wanted, ask.windows):
                score = scored.score
                values = self._objectives.of([scored])[0]
                reply = Reply(values=values, tokens=score.tokens, seconds=score.seconds)
                self._keep(missing[index], reply)
                self._sampled += 1
                self._charge(
                    reply.tokens, partial(self._show, on_progress, scored, self._plan_count)
                )
        replies = [self._replies[self._round, genome] for genome in genomes]
        share = len(ask.windows) / self._scorer.rungs[-1]
        values = np.stack([reply.values for reply in replies])
        return Answer(objectives=values, seen=np.full(len(replies), share))

    def _keep(self, genome: Genome, reply: Reply) -> None:
        self._run.record_reply(self._round, genome, reply)
        self._replies[self._round, genome] = reply
        self._landed_count += 1

    def _race(self, ask: Ask, genomes: Sequence[Genome], on_progress: OnProgress) -> None:
        """Race genomes up the rungs, up to the limits, from where each stands."""
        rungs = self._scorer.rungs[: ask.rungs]
        admitted = self._admitted(ask, list(dict.fromkeys(genomes)), rungs[-1])
        costs: dict[int, list[float]] = {}
        landed: dict[int, Evaluation] = {}

        def score(members: Members, rung: int) -> Iterator[tuple[int, Score]]:
            for position, evaluation in self._landings([admitted[m] for m in members], rung):
                member = int(members[position])
                landed[member] = evaluation
                costs[member] = self._objectives.prices(evaluation)
                yield position, evaluation.score

        race = Race(rungs, score, self._judge(costs, ask, rungs))
        before, climbed = self._plan_count, 0
        for member, so_far in race.run(len(admitted)):
            more = landed[member].score
            evaluation = landed[member].scored(so_far)
            known = self._known.get(evaluation.genome)
            if known is not None and known.score.windows >= so_far.windows:
                continue
            self._known[evaluation.genome] = evaluation
            climbed += more.windows
            whole = so_far.windows == self._scorer.rungs[-1]
            done = before + climbed // rungs[-1]  # the last is done when the race is
            show = partial(self._show, on_progress, evaluation, done, whole=whole)
            if ask.counted:
                self._charge(more.tokens, show, plans=False)
            else:
                self._uncounted_seconds += more.seconds
                show()
        if landed and self._plan_count > before + climbed // rungs[-1]:
            self._show(on_progress, evaluation, self._plan_count)
        if ask.counted and self._plan_count >= self._limits.most_evaluations:
            raise LimitReached("evaluations")

    def _admitted(self, ask: Ask, genomes: Sequence[Genome], windows: int) -> list[Genome]:
        """Give the genomes that have not come to some windows yet, new ones up to the limit."""
        wanted = [genome for genome in genomes if not self._has_come_to(genome, windows)]
        new = [genome for genome in wanted if genome not in self._known]
        if ask.counted:
            new = new[: max(0, self._limits.most_evaluations - self._plan_count)]
        else:
            self._uncounted.update(new)
        return [genome for genome in wanted if genome in self._known or genome in new]

    def _has_come_to(self, genome: Genome, windows: int) -> bool:
        known = self._known.get(genome)
        return known is not None and bool(known.score.windows >= windows or known.score.failure)

    def _landings(self, genomes: Sequence[Genome], rung: int) -> Iterator[tuple[int, Evaluation]]:
        """One rung of some genomes: what is known or stored, then the others as they land."""
        start, stop = (0, *self._scorer.rungs)[rung : rung + 2]
        missing = []
        for position, genome in enumerate(genomes):
            found = self._stored.get(genome)
            if found is not None and (found.score.windows >= stop or found.score.failure):
                yield position, found.scored(found.score.upto(stop).since(start))
            else:
                missing.append(position)
        if not missing:
            return
        wanted = np.array([genomes[position] for position in missing], dtype=np.int_)
        for index, scored in self._scorer.score(wanted, rung):
            genome = genomes[missing[index]]
            evaluation = replace(scored, genome=genome, round=self._round)
            known = self._known.get(genome)
            whole = evaluation.scored(known.score.then(scored.score) if known else scored.score)
            self._run.record(whole)
            self._stored[genome] = whole
            self._landed_count += 1
            yield missing[index], evaluation

    def _judge(self, costs: Mapping[int, list[float]], ask: Ask, rungs: tuple[int, ...]) -> Judge:
        """Give the rule by which a round's race drops plans, against what is known so far."""
        if self._racing == "off" or not ask.racing:
            return lambda members, _values: np.ones(len(members), dtype=bool)
        known = [e for e in self._known.values() if e.score.windows >= rungs[-1]]
        alike = [e.scored(e.score.upto(rungs[-1])) for e in known]
        rivals = front(alike, self._objectives.cost_names)
        shape = len(rivals), len(self._objectives.cost_names)
        values = kl_by_window(rivals)
        prices = np.array([self._objectives.prices(rival) for rival in rivals]).reshape(shape)
        looks = len(rungs) - 1

        def judge(members: Members, scores: NDArray[np.float64]) -> Survivors:
            own = np.array([costs[member] for member in range(len(costs))])
            if self._racing == "halving":
                return judge_half(own, values, prices)(members, scores)
            risk, each = (RISK, False) if ask.risk is None else (ask.risk, True)
            by_front = judge_front(own, values, prices, risk=risk, looks=looks, each=each)
            return by_front(members, scores)

        return judge

    def _parents(self) -> NDArray[np.int_]:
        """The plans that children are likely to come from: the front so far."""
        best = front(list(self._known.values()), self._objectives.cost_names)
        sites = len(next(iter(self._known)))
        genomes = [evaluation.genome for evaluation in best]
        return np.array(genomes, dtype=np.int_).reshape(-1, sites)

    @property
    def _plan_count(self) -> int:
        """Plans that count so far, those that were only sampled included."""
        return len(self._known) - len(self._uncounted & self._known.keys()) + self._sampled

    def _charge(
        self, tokens: int, show: Callable[[], None] = lambda: None, *, plans: bool = True
    ) -> None:
        """Count tokens, show how far it has come, and stop where a limit is reached.

        Args:
            tokens: Of a landing.
            show: Tells of it.
            plans: Whether the limit on plans is looked at: a race looks only at its end.

        Raises:
            LimitReached: At a limit.
        """
        self._tokens += tokens
        show()
        limits = self._limits
        if limits.tokens is not None and self._tokens >= limits.tokens:
            raise LimitReached("tokens")
        if limits.minutes is not None and self._seconds() >= 60 * limits.minutes:
            raise LimitReached("minutes")
        if plans and self._plan_count >= limits.most_evaluations:
            raise LimitReached("evaluations")

    @contextmanager
    def _choosing(self) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.choosing_seconds += time.monotonic() - started

    def _seconds(self) -> float:
        elapsed = time.monotonic() - self._started
        return self._seconds_before + elapsed - self._uncounted_seconds

    def _show(
        self, on_progress: OnProgress, latest: Evaluation, done: int, *, whole: bool = False
    ) -> None:
        """Tell how far the search has come, so many plans being done."""
        limits, seconds, eta = self._limits, self._seconds(), None
        share = max(
            done / limits.most_evaluations,
            self._tokens / limits.tokens if limits.tokens else 0.0,
            seconds / 60 / limits.minutes if limits.minutes else 0.0,
        )
        if self._landed_count:
            elapsed = time.monotonic() - self._started
            eta = elapsed / max(share - self._share_found, TINY) * max(0.0, 1.0 - share)
        else:
            self._share_found = share
        on_progress(
            SearchProgress(
                done=done,
                share=min(share, 1.0),
                tokens=self._tokens,
                latest=latest,
                whole=whole,
                seconds=seconds,
                eta_seconds=eta,
            )
        )
