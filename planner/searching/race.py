"""One round of a search: its genomes race up the rungs, and each score is recorded as it lands."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evaluators.scoring.prefix_tree import Members
from evaluators.scoring.racing import RISK, Judge, Race, Survivors, judge_front, judge_half
from evaluators.scoring.score import Score
from planner.results.front import front
from planner.runs.records import Evaluation
from planner.runs.run_store import RunStore
from planner.searchers.protocol import Ask
from planner.searching.objectives import Objectives, kl_by_window
from planner.searching.protocol import GenomeScorer
from planner.searching.spending import LimitReached, OnProgress, Spending, plan_count
from planner.settings.search import Racing
from search_spaces.space.space import Genome


class RoundRacer:
    """Races the genomes of each round, and holds what is known of every plan.

    Args:
        scorer: Scores genomes; asked only for what the run does not hold.
        run: Where each evaluation is written as it lands.
        objectives: What plans are compared by.
        spending: Counts what the rounds take.
        racing: How dominated plans are dropped before they have seen all text.
    """

    def __init__(
        self,
        scorer: GenomeScorer,
        run: RunStore,
        objectives: Objectives,
        spending: Spending,
        racing: Racing,
    ) -> None:
        self._scorer = scorer
        self._run = run
        self._objectives = objectives
        self._spending = spending
        self._racing = racing
        self.evaluations: dict[Genome, Evaluation] = {}
        """Plans of this search so far, in the order in which they were last asked for."""
        self._stored = {evaluation.genome: evaluation for evaluation in run.landed()}

    def race(
        self, ask: Ask, genomes: Sequence[Genome], round_number: int, on_progress: OnProgress
    ) -> None:
        """Race genomes up the rungs, each from where it stands, until a limit is reached.

        Raises:
            LimitReached: At a limit.
        """
        rungs = self._scorer.rungs[: ask.rungs]
        admitted = self._admit(ask, list(dict.fromkeys(genomes)), rungs[-1])
        costs: dict[int, list[float]] = {}
        landed: dict[int, Evaluation] = {}
        spending, count_before, window_count = self._spending, self._spending.plan_count, 0

        def score(members: Members, rung: int) -> Iterator[tuple[int, Score]]:
            members = self._within_limit(ask, admitted, members, rungs[rung])
            racers = [admitted[m] for m in members]
            done = count_before + window_count // rungs[-1]
            self._announce(f"round {round_number + 1}", racers, rungs[rung], done, on_progress)
            for position, evaluation in self._land(racers, rung, ask, round_number):
                member = int(members[position])
                landed[member] = evaluation
                costs[member] = self._objectives.compared_shares(evaluation)
                yield position, evaluation.score

        race = Race(rungs, score, self._judge(costs, ask, rungs))
        for member, so_far in race.run(len(admitted)):
            rung_score = landed[member].score
            evaluation = landed[member].scored(so_far)
            previous = self.evaluations.get(evaluation.genome)
            if previous is not None and previous.score.windows >= so_far.windows:
                continue
            self.evaluations[evaluation.genome] = evaluation
            window_count += rung_score.windows
            spending.add(rung_score, is_new=previous is None, counted=ask.counted)
            is_complete = so_far.windows == self._scorer.rungs[-1]
            done = count_before + window_count // rungs[-1]  # the last is done when the race is
            spending.report(on_progress, evaluation, done, is_complete=is_complete)
            if ask.counted:
                spending.check(plans=False)
        # as asked for, whichever landed first
        self.evaluations |= {genome: self.evaluations.pop(genome) for genome in admitted}
        if landed and spending.plan_count > count_before + window_count // rungs[-1]:
            spending.report(on_progress, evaluation, spending.plan_count)
        if ask.counted and spending.plan_count >= spending.limits.most_evaluations:
            raise LimitReached("evaluations")

    def _within_limit(
        self, ask: Ask, genomes: Sequence[Genome], members: Members, windows: int
    ) -> Members:
        """Return those members of a race that the limit on tokens leaves room for, in order.

        The search ends as the last of them lands: who they are must not depend on who is first.

        Args:
            ask: That is raced for.
            genomes: Of all members.
            members: That are left.
            windows: That they are to be scored on.
        """
        tokens, limit = self._spending.tokens, self._spending.limits.tokens
        if limit is None or not ask.counted:
            return members
        for count, member in enumerate(members, start=1):
            before = self.evaluations.get(genomes[member])
            held = 0 if before is None else before.score.windows
            tokens += max(0, windows - held) * self._scorer.window_tokens
            if tokens >= limit:
                return members[:count]
        return members

    def _announce(
        self,
        round_name: str,
        racers: Sequence[Genome],
        windows: int,
        done: int,
        on_progress: OnProgress,
    ) -> None:
        """Report that genomes are about to race to some windows, with so many plans done."""
        if racers:
            text = f"{windows} of {self._scorer.rungs[-1]} windows"
            self._spending.doing = f"{round_name}: {plan_count(len(racers))} on {text}"
            self._spending.report(on_progress, None, done)

    def _admit(self, ask: Ask, genomes: Sequence[Genome], windows: int) -> list[Genome]:
        """Return the genomes not yet scored on some windows, new ones up to the limit."""
        unfinished = [genome for genome in genomes if not self._is_scored(genome, windows)]
        new = [genome for genome in unfinished if genome not in self.evaluations]
        if ask.counted:
            room = self._spending.limits.most_evaluations - self._spending.plan_count
            new = new[: max(0, room)]
        return [genome for genome in unfinished if genome in self.evaluations or genome in new]

    def _is_scored(self, genome: Genome, windows: int) -> bool:
        evaluation = self.evaluations.get(genome)
        return evaluation is not None and bool(
            evaluation.score.windows >= windows or evaluation.score.failure
        )

    def _land(
        self, genomes: Sequence[Genome], rung: int, ask: Ask, round_number: int
    ) -> Iterator[tuple[int, Evaluation]]:
        """Yield the scores of one rung: first those the run holds, then others as they land."""
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
        self._spending.begin_scoring(counted=ask.counted)
        unscored = np.array([genomes[position] for position in missing], dtype=np.int_)
        for index, scored in self._scorer.score(unscored, rung):
            genome = genomes[missing[index]]
            evaluation = replace(scored, genome=genome, round=round_number)
            before = self.evaluations.get(genome)
            score = before.score.then(scored.score) if before else scored.score
            so_far = evaluation.scored(score)
            self._run.record(so_far)
            self._stored[genome] = so_far
            self._spending.landed_count += 1
            yield missing[index], evaluation

    def _judge(self, costs: Mapping[int, list[float]], ask: Ask, rungs: tuple[int, ...]) -> Judge:
        """Return the rule that drops plans of a round, against the front of earlier rounds."""
        if self._racing == "off" or not ask.racing:
            return lambda members, _values: np.ones(len(members), dtype=bool)
        finished = [e for e in self.evaluations.values() if e.score.windows >= rungs[-1]]
        on_same_text = [e.scored(e.score.upto(rungs[-1])) for e in finished]
        rivals = front(on_same_text, self._objectives.problem.cost_names)
        shape = len(rivals), len(self._objectives.problem.cost_names)
        rival_values = kl_by_window(rivals)
        rival_shares = [self._objectives.compared_shares(rival) for rival in rivals]
        rival_costs = np.array(rival_shares).reshape(shape)
        looks = len(rungs) - 1

        def judge(members: Members, values: NDArray[np.float64]) -> Survivors:
            member_costs = np.array([costs[member] for member in range(len(costs))])
            if self._racing == "halving":
                return judge_half(member_costs, rival_values, rival_costs)(members, values)
            risk, each = (RISK, False) if ask.risk is None else (ask.risk, True)
            by_front = judge_front(
                member_costs, rival_values, rival_costs, risk=risk, looks=looks, each=each
            )
            return by_front(members, values)

        return judge
