"""What searchers minimise: objectives of plans, all finite and on the same text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray

from evaluators.scoring.racing import projected
from planner.results.front import fully_scored
from planner.runs.records import Evaluation
from planner.searching.problem import Problem
from planner.settings.budget import relative_cost

_ROUNDING = 1e-9
_KL_CEILING = 1e3
"""KL of a plan whose KL overflows: the worst there is, yet finite, as searchers compare it."""


@dataclass(frozen=True)
class Objectives:
    """What is minimised: KL, then the costs of a problem as shares of the dense model's."""

    problem: Problem

    def of(
        self, evaluations: Sequence[Evaluation], scored: Sequence[Evaluation] = ()
    ) -> NDArray[np.float64]:
        """Return the objectives of evaluations, ``(evaluations, 1 + costs)``, finite.

        Args:
            evaluations: The KL of those that a race dropped is projected to all windows.
            scored: All evaluations so far, which projections rely on.
        """
        references = kl_by_window(fully_scored([*scored, *evaluations]))
        kls = [_projected_kl(evaluation, references) for evaluation in evaluations]
        shares = [self.shares(evaluation) for evaluation in evaluations]
        return np.column_stack([kls, np.array(shares).reshape(len(kls), -1)]).astype(np.float64)

    def shares(self, evaluation: Evaluation) -> list[float]:
        """Return the costs of the problem as shares of the dense model's."""
        dense, names = self.problem.dense, self.problem.cost_names
        return [relative_cost(name, evaluation.costs[name], dense) for name in names]

    def compared_shares(self, evaluation: Evaluation) -> list[float]:
        """Return the shares to compare plans by: all within the budget count as equally cheap."""
        shares = self.shares(evaluation)
        return [max(pair) for pair in zip(shares, self.problem.allowed or shares, strict=True)]

    def admits(self, evaluation: Evaluation) -> bool:
        """Return whether a plan matters: all do, or only those within the budget."""
        pairs = zip(self.shares(evaluation), self.problem.allowed, strict=False)
        return all(share <= limit + _ROUNDING for share, limit in pairs)


def kl_by_window(evaluations: Sequence[Evaluation]) -> NDArray[np.float64]:
    """Stack the KL of plans scored on equally many windows, ``(plans, windows)``."""
    rows = [e.score.by_window["kl"] for e in evaluations]
    return np.stack(rows) if rows else np.empty((0, 0))


def _projected_kl(evaluation: Evaluation, references: NDArray[np.float64]) -> float:
    if evaluation.score.failure is not None:
        return _KL_CEILING
    kl = projected(evaluation.score.by_window["kl"], references)
    return min(kl, _KL_CEILING) if math.isfinite(kl) else _KL_CEILING


def likely_front(evaluations: Sequence[Evaluation], objectives: Objectives) -> list[Evaluation]:
    """Return the plans that would be on the front if all had the KL projected for them.

    If only the budget matters, these are the best within it.
    """
    # sorted, for projections add up all of them, and a sum rounds by its order
    plans = sorted(evaluations, key=lambda e: e.genome)
    sound = [e for e in plans if e.score.failure is None and objectives.admits(e)]
    references = kl_by_window(fully_scored(sound))
    points = [[_projected_kl(e, references), *objectives.compared_shares(e)] for e in sound]
    nondominated = moocore.is_nondominated(np.array(points)) if sound else []
    return [evaluation for evaluation, is_on in zip(sound, nondominated, strict=True) if is_on]
