"""What a searcher is told of a plan: numbers to minimise, all finite and on the same text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray

from evaluators.scoring.racing import projected
from planner.results.front import complete
from planner.runs.records import Evaluation
from planner.settings.budget import relative_cost

_ROUNDING = 1e-9
_KL_CEILING = 1e3
"""A plan whose KL overflows is as bad as can be, yet finite, as searchers must compare it."""


@dataclass(frozen=True, kw_only=True)
class Objectives:
    """What is minimised: KL, then the named costs as shares of the dense model's."""

    cost_names: tuple[str, ...]
    dense: Mapping[str, float]
    allowed: tuple[float, ...] = ()
    """Where only the budget matters: the share that it allows of each cost, infinite for none."""

    def of(
        self, evaluations: Sequence[Evaluation], known: Sequence[Evaluation] = ()
    ) -> NDArray[np.float64]:
        """Objectives of evaluations, ``(evaluations, 1 + costs)``, finite.

        Args:
            evaluations: Those that the race dropped have their KL projected to all windows.
            known: Whatever was scored so far, to project by.
        """
        references = kl_by_window(complete([*known, *evaluations]))
        kls = [_told_kl(evaluation, references) for evaluation in evaluations]
        shares = [self.shares(evaluation) for evaluation in evaluations]
        return np.column_stack([kls, np.array(shares).reshape(len(kls), -1)]).astype(np.float64)

    def shares(self, evaluation: Evaluation) -> list[float]:
        """The named costs as shares of the dense model's."""
        return [relative_cost(n, evaluation.costs[n], self.dense) for n in self.cost_names]

    def prices(self, evaluation: Evaluation) -> list[float]:
        """The shares that plans are compared by: all that the budget allows is equally cheap."""
        shares = self.shares(evaluation)
        return [max(pair) for pair in zip(shares, self.allowed or shares, strict=True)]

    def admits(self, evaluation: Evaluation) -> bool:
        """Tell whether a plan matters: all do, or those within the budget."""
        pairs = zip(self.shares(evaluation), self.allowed, strict=False)
        return all(share <= limit + _ROUNDING for share, limit in pairs)


def kl_by_window(evaluations: Sequence[Evaluation]) -> NDArray[np.float64]:
    """Stack the KL of plans that were scored on equally many windows, ``(plans, windows)``."""
    rows = [e.score.by_window["kl"] for e in evaluations]
    return np.stack(rows) if rows else np.empty((0, 0))


def _told_kl(evaluation: Evaluation, references: NDArray[np.float64]) -> float:
    if evaluation.score.failure is not None:
        return _KL_CEILING
    kl = projected(evaluation.score.by_window["kl"], references)
    return min(kl, _KL_CEILING) if math.isfinite(kl) else _KL_CEILING


def likely_front(evaluations: Sequence[Evaluation], objectives: Objectives) -> list[Evaluation]:
    """The plans that would be on the front if all had the KL that is projected for them.

    Where only the budget matters, those that are the best within it.
    """
    sound = [e for e in evaluations if e.score.failure is None and objectives.admits(e)]
    references = kl_by_window(complete(sound))
    points = [[_told_kl(e, references), *objectives.prices(e)] for e in sound]
    kept = moocore.is_nondominated(np.array(points)) if sound else []
    return [evaluation for evaluation, keep in zip(sound, kept, strict=True) if keep]
