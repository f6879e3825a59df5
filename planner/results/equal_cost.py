"""What a restriction costs: the KL of two runs' fronts at the same costs, on held-out text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluators.metric import Measurement
from planner.results.compare_fronts import check_comparable, rescored_front
from planner.results.significance import Verdict, compare_kl
from planner.runs.records import Evaluation
from planner.runs.run_store import RunStore
from planner.settings.budget import relative_cost

MOST_POINTS = 6
"""Plans of a front at whose costs another is looked up."""


@dataclass(frozen=True, kw_only=True)
class EqualCost:
    """A plan of one run, and the best of another that costs no more."""

    ours: Evaluation
    theirs: Evaluation
    shares: tuple[float, ...]
    """Costs of our plan, as shares of the dense model's; theirs are no higher."""
    excess: Measurement
    """How much higher our KL is, on the same windows where both were scored on these."""
    verdict: Verdict
    """Of theirs against ours."""


def at_equal_cost(ours: RunStore, theirs: RunStore) -> list[EqualCost]:
    """Compare plans of one run with the best plans of another that cost no more.

    Args:
        ours: A run, such as one whose plans must load somewhere.
        theirs: One of the same model, costs and text.

    Returns:
        One comparison for each of some plans of our front, spread over its costs, the most
        expensive first; the dense model and plans below all costs of theirs are left out.

    Raises:
        RunError: If they cannot be compared, or a front is not re-scored on held-out text.
    """
    check_comparable(ours, theirs)
    names, dense = ours.cost_names, ours.dense
    others = rescored_front(theirs)
    found = []
    for plan in rescored_front(ours):
        within = [e for e in others if all(e.costs[name] <= plan.costs[name] for name in names)]
        shares = tuple(relative_cost(name, plan.costs[name], dense) for name in names)
        if within and plan.score.mean("kl") > 0:
            best = min(within, key=lambda e: (e.score.mean("kl"), e.genome))
            excess, verdict = compare_kl(best.holdout["kl"], plan.holdout["kl"])
            found.append(
                EqualCost(ours=plan, theirs=best, shares=shares, excess=excess, verdict=verdict)
            )
    return _spread(found)


def _spread(found: Sequence[EqualCost]) -> list[EqualCost]:
    """Return some comparisons, spread evenly over the first cost."""
    if len(found) <= MOST_POINTS:
        return list(found)
    shares = np.array([each.shares[0] for each in found])
    goals = np.linspace(shares.max(), shares.min(), MOST_POINTS)
    nearest = {int(np.abs(shares - goal).argmin()) for goal in goals}
    return [found[position] for position in sorted(nearest)]
