"""Choosing a plan by what recovery makes of it: successive halving over tokens of recovery."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from planner.preparation.prepared_model import PreparedModel
from planner.recovery.fitting_text import FittingText
from planner.recovery.recording import VariantScorer, load_recovered
from planner.recovery.recover import begun_record, fit, recover
from planner.recovery.recovered_weights import staged_weights
from planner.results.front import rank_within, within
from planner.runs.metadata import RunMetadata
from planner.runs.records import Evaluation, LayerRecovery, Selection, SelectionRound
from planner.runs.run_store import RunStore
from planner.searchers.frontier.surrogate_check import rank_correlation
from planner.settings.budget import Budget
from search_spaces.progress import NO_PROGRESS, Progress

logger = logging.getLogger(__name__)

CANDIDATES = 8
"""Plans within a budget that are recovered, to choose the best of them."""
MOST_CANDIDATES = 128
_POOL = 4
"""Times as many of the best plans are looked at for some that differ."""


@dataclass(frozen=True, kw_only=True)
class Selector:
    """Recovers the best plans of a run within a budget briefly, and the better half for longer.

    References:
        Tang, Sieberling, Kurtic, Shen & Alistarh, 2025, "DarwinLM: Evolutionary Structured Pruning
        of Large Language Models" (training-aware selection); Jamieson & Talwalkar, 2016,
        "Non-stochastic Best Arm Identification and Hyperparameter Optimization" (successive
        halving). Different here: recovery is in closed form, and plans are compared on text that
        neither it nor the search was fitted to.
    """

    run: RunStore
    prepared: PreparedModel
    progress: Progress

    def recover_within(
        self,
        budget: Budget,
        recovery: LayerRecovery,
        count: int = CANDIDATES,
        tokens: int | None = None,
    ) -> Evaluation:
        """Recover the plan within a budget that does best after recovery, and record it.

        Args:
            budget: The limits.
            recovery: How the chosen plan is recovered; the choice is made by `refit`.
            count: Plans to choose among; 1: the best as it was searched.
            tokens: Of text to fit the chosen plan to, at most; None: all there are.

        Returns:
            The plan as the run holds it now, with what its recovery came to.

        Raises:
            BudgetError: If no plan meets the budget.
        """
        plans = self._candidates(budget, count)
        chosen = plans[0]
        if len(plans) > 1:
            text = FittingText.of(self.prepared, tokens)
            selection = self._halved(plans, text, budget, recovery)
            self.run.record_metadata(RunMetadata(selection=selection))
            chosen = next(plan for plan in plans if plan.plan_id == selection.chosen)
        recover(self.run, self.prepared, chosen.plan_id, recovery, self.progress, tokens)
        found = self.run.find_plan(chosen.plan_id)
        assert found is not None, "a plan that was recovered is of the run"
        return found

    def is_chosen(self, budget: Budget, recovery: LayerRecovery) -> bool:
        """Return whether the plan within a budget was chosen before, among the same plans."""
        chosen, ids = self.run.metadata.selection, self._candidates(budget, CANDIDATES)
        if chosen is None or (chosen.budget, chosen.recovery) != (str(budget), recovery):
            return False
        return list(chosen.searched) == [plan.plan_id for plan in ids]

    def _candidates(self, budget: Budget, count: int) -> list[Evaluation]:
        """Return the best plans within a budget, no two of them all but the same."""
        run = self.run
        budget.check_reachable(run.dense, run.smallest)
        fitting = within(run.landed(), budget, run.dense)
        fitting.sort(key=lambda plan: rank_within(plan, budget, run.cost_names))
        by_id = {plan.plan_id: plan for plan in reversed(fitting)}  # of equals the best stays
        pool = [plan for plan in fitting if by_id[plan.plan_id] is plan][: _POOL * count]
        spread = spread_out(self._shares(pool), count)
        return [pool[place] for place in spread]

    def _shares(self, plans: Sequence[Evaluation]) -> NDArray[np.float64]:
        """Return what plans keep of each component, and with which options, ``(plans, …)``."""
        space = self.prepared.space
        genomes = space.repaired(np.array([plan.genome for plan in plans]))
        configurations = space.configurations(genomes)
        counts = np.array([component.unit_count for component in space.components])
        kept = space.tables.units(configurations) / counts
        return np.concatenate([kept, space.tables.options_index(configurations)], axis=1)

    def _halved(
        self,
        plans: Sequence[Evaluation],
        text: FittingText,
        budget: Budget,
        recovery: LayerRecovery,
    ) -> Selection:
        """Return which of some plans does best after recovery on more and more text."""
        left, rounds = list(plans), list[SelectionRound]()
        tokens = max(text.fitted.shape[1], text.fitted.numel() // len(plans))
        while len(left) > 1:
            self.progress.stage(f"recovering {len(left)} plans on {tokens:,} tokens each")
            kl = dict[str, float]()
            for plan in left:
                kl[plan.plan_id] = self._kl_after(plan, tokens)
                self.progress.advance(len(kl), len(left))
            rounds.append(SelectionRound(tokens=tokens, kl=kl))
            left.sort(key=lambda plan: rounds[-1].kl[plan.plan_id])
            left, tokens = left[: (len(left) + 1) // 2], 2 * tokens
        searched = {plan.plan_id: plan.score.mean("kl") for plan in plans}
        return Selection(
            budget=str(budget),
            recovery=recovery,
            searched=searched,
            rounds=tuple(rounds),
            chosen=left[0].plan_id,
            spearman=rank_correlation(
                np.array(list(searched.values())),
                np.array([rounds[0].kl[plan_id] for plan_id in searched]),
            ),
        )

    def _kl_after(self, plan: Evaluation, tokens: int) -> float:
        """Return the KL of a plan on the search text, after a short recovery if that is better."""
        cut = load_recovered(self.run, self.prepared, plan.plan_id)
        text = FittingText.of(self.prepared, tokens)
        scorer = VariantScorer(prepared=self.prepared, settings=self.run.settings)
        record = begun_record(plan.plan_id, "refit", self.prepared, text)
        loaded = self.prepared.dense.loaded
        with staged_weights(self.run.folder, plan.plan_id, "refit", loaded) as staged:
            fit(cut, "refit", text, staged, NO_PROGRESS)
            recovered = replace(cut, recovered=staged.completed(record))
            after = scorer.searched(recovered)["kl"].value
        before = plan.score.mean("kl")
        return min(before, after) if np.isfinite(after) else before


def spread_out(places: NDArray[np.float64], count: int) -> list[int]:
    """Return the first of some places that are not near each other, and then the first others.

    Near is what lies within half of the median distance of all. Places that are left are taken if
    there are too few.

    >>> spread_out(np.array([[0.0], [0.1], [5.0], [9.0]]), 3)
    [0, 2, 3]
    >>> spread_out(np.array([[0.0], [0.1]]), 2)
    [0, 1]

    Args:
        places: The best first, ``(places, dimensions)``.
        count: How many to return.
    """
    distances = np.abs(places[:, None] - places[None]).mean(axis=2)
    pairs = [distances[pair] for pair in combinations(range(len(places)), 2)]
    near = float(np.median(pairs)) / 2 if pairs else 0.0
    taken: list[int] = []
    for place in range(len(places)):
        if all(distances[place, other] > near for other in taken):
            taken.append(place)
    left = [place for place in range(len(places)) if place not in taken]
    return sorted([*taken, *left][:count])
