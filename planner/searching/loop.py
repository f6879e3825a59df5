"""The search loop: asks the searcher, answers from the run or by scoring, and resumes a run."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from planner.results.front import front
from planner.runs.records import RoundReply, SearchEffort
from planner.runs.run_store import RunStore
from planner.searchers.protocol import Answer, Ask, Searcher
from planner.searching.objectives import Objectives
from planner.searching.protocol import GenomeScorer
from planner.searching.race import RoundRacer
from planner.searching.spending import (
    LimitReached,
    Limits,
    OnProgress,
    Spending,
    StopReason,
    held_effort,
    plan_count,
)
from planner.settings.search import Racing
from search_spaces.space.space import Genome

_IDLE_ROUND_COUNT = 20


class SearchLoop:
    """One session of a search.

    A run that was killed is resumed by running this again with a new searcher of the same seed:
    what the store holds is replayed in the same order, and only the rest is scored.

    Args:
        searcher: Proposes genomes; fresh, even if the run is not.
        scorer: Scores genomes; asked only for what the run does not hold.
        run: Where each evaluation is written as it lands.
        limits: How far to go.
        objectives: What the searcher minimises.
        racing: How dominated plans are dropped before they have seen all text.
    """

    def __init__(
        self,
        searcher: Searcher,
        scorer: GenomeScorer,
        run: RunStore,
        limits: Limits,
        objectives: Objectives,
        *,
        racing: Racing = "tests",
    ) -> None:
        self._searcher = searcher
        self._scorer = scorer
        self._run = run
        self._objectives = objectives
        self._replies = run.replies()
        self._spending = Spending(limits, held_effort(run), run.metadata.spent)
        self._racer = RoundRacer(scorer, run, objectives, self._spending, racing)
        self._reply_count = 0
        self._round = -1

    def run(self, on_progress: OnProgress = lambda _: None) -> StopReason:
        """Search until a limit is reached or the searcher proposes nothing new.

        Args:
            on_progress: Called as a batch of plans begins on a rung, and as each of them lands.

        Returns:
            Why it stopped.
        """
        idle_rounds = 0
        try:
            while idle_rounds < _IDLE_ROUND_COUNT:
                with self._spending.choosing():
                    ask = self._searcher.ask()
                self._round += 1
                count_before = self._answer_count
                if len(ask.genomes):
                    answer = self._answer(ask, on_progress)
                    with self._spending.choosing():
                        self._searcher.tell(ask, answer)
                idle_rounds = 0 if self._answer_count > count_before else idle_rounds + 1
        except LimitReached as reached:
            return reached.reason
        return "exhausted"

    @property
    def spent(self) -> SearchEffort:
        """What the search has taken so far."""
        return self._spending.spent

    @property
    def _answer_count(self) -> int:
        """Plans and replies of this search so far, which grow as long as there is news."""
        return len(self._racer.evaluations) + self._reply_count

    def _answer(self, ask: Ask, on_progress: OnProgress) -> Answer:
        genomes = [tuple(int(level) for level in row) for row in ask.genomes]
        if ask.gradients:
            return self._gradients(genomes, on_progress)
        if ask.windows:
            return self._sample(ask, genomes, on_progress)
        self._racer.race(ask, genomes, self._round, on_progress)
        evaluations = [self._racer.evaluations[genome] for genome in genomes]
        objectives = self._objectives.of(evaluations, list(self._racer.evaluations.values()))
        self._scorer.expect(self._parents())
        seen = [evaluation.score.windows / self._scorer.rungs[-1] for evaluation in evaluations]
        return Answer(objectives=objectives, seen=np.array(seen))

    def _gradients(self, genomes: Sequence[Genome], on_progress: OnProgress) -> Answer:
        missing = self._unanswered(genomes)
        if missing:
            self._spending.begin_scoring()
            self._say(f"gradients at {plan_count(len(missing))}", on_progress)
            for index, reply in self._scorer.gradients(np.array(missing, dtype=np.int_)):
                self._record(missing[index], reply)
        replies = [self._replies[self._round, genome] for genome in genomes]
        self._reply_count += len(replies)
        self._spending.tokens += sum(reply.tokens for reply in replies)
        self._spending.check(plans=False)
        return Answer(
            objectives=np.empty((0, 0)),
            seen=np.empty(0),
            gradients=tuple(reply.values for reply in replies),
        )

    def _sample(self, ask: Ask, genomes: Sequence[Genome], on_progress: OnProgress) -> Answer:
        """Score genomes on windows that the searcher chose."""
        missing = self._unanswered(genomes)
        for genome in genomes:
            if genome not in missing:
                self._count_sample(self._replies[self._round, genome])
                self._spending.check()
        if missing:
            self._spending.begin_scoring()
            windows = f"{len(ask.windows)} of {self._scorer.rungs[-1]} windows"
            self._say(f"{plan_count(len(missing))} on {windows}, drawn for them", on_progress)
            # no more than count, so that which they are does not depend on who lands first
            room = self._spending.room(len(ask.windows) * self._scorer.window_tokens)
            unscored = np.array(missing[:room], dtype=np.int_)
            for index, scored in self._scorer.sample(unscored, ask.windows):
                score = scored.score
                values = self._objectives.of([scored])[0]
                reply = RoundReply(values=values, tokens=score.tokens, seconds=score.seconds)
                self._record(missing[index], reply)
                self._count_sample(reply)
                self._spending.report(on_progress, scored, self._spending.plan_count)
                self._spending.check()
        replies = [self._replies[self._round, genome] for genome in genomes]
        share = len(ask.windows) / self._scorer.rungs[-1]
        values = np.stack([reply.values for reply in replies])
        return Answer(objectives=values, seen=np.full(len(replies), share))

    def _say(self, what: str, on_progress: OnProgress) -> None:
        """Report what is about to be done in this round."""
        self._spending.doing = f"round {self._round + 1}: {what}"
        self._spending.report(on_progress, None, self._spending.plan_count)

    def _unanswered(self, genomes: Sequence[Genome]) -> list[Genome]:
        """Return the genomes without a reply in this round, which a resumed run may hold."""
        return [genome for genome in genomes if (self._round, genome) not in self._replies]

    def _count_sample(self, reply: RoundReply) -> None:
        self._reply_count += 1
        self._spending.plan_count += 1
        self._spending.tokens += reply.tokens

    def _record(self, genome: Genome, reply: RoundReply) -> None:
        self._run.record_reply(self._round, genome, reply)
        self._replies[self._round, genome] = reply
        self._spending.landed_count += 1

    def _parents(self) -> NDArray[np.int_]:
        """Return the plans that children are likely to come from: the front so far."""
        evaluations = list(self._racer.evaluations.values())
        plans = front(evaluations, self._objectives.problem.cost_names)
        genomes = [plan.genome for plan in plans]
        return np.array(genomes, dtype=np.int_).reshape(-1, len(evaluations[0].genome))
