"""The non-dominated plans of a run: as a list, a table, a file, and within a budget."""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import moocore
import numpy as np

from planner.results.plan_columns import plan_columns
from planner.runs.folder import FRONT_FILE
from planner.runs.records import Evaluation
from planner.settings.budget import Budget
from search_spaces.atomic_files import atomic_write_text
from search_spaces.errors import BudgetError

if TYPE_CHECKING:
    import pandas as pd


def fully_scored(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Return the plans with comparable scores: sound, and on as many windows as any plan."""
    sound = [(e, e.score.windows) for e in evaluations if e.score.failure is None]
    most = max((windows for _, windows in sound), default=0)
    return [e for e, windows in sound if windows == most]


def front(evaluations: Sequence[Evaluation], cost_names: Sequence[str]) -> list[Evaluation]:
    """Return the plans not dominated in KL and the named costs, most expensive first.

    Of plans that are equal in all of these, one is returned.
    """
    # sorted by genome, so that which of two equals is returned does not depend on landing order
    plans = sorted(fully_scored(evaluations), key=lambda e: e.genome)
    if not plans:
        return []
    points = [[e.score.mean("kl"), *(e.costs[name] for name in cost_names)] for e in plans]
    nondominated = moocore.is_nondominated(np.array(points))
    front_plans = [
        plan for plan, is_on_front in zip(plans, nondominated, strict=True) if is_on_front
    ]
    return sorted(front_plans, key=lambda e: (-e.costs[cost_names[0]], e.score.mean("kl")))


def with_variants(plans: Iterable[Evaluation]) -> list[Evaluation]:
    """Return plans, each followed by its variants with recovered weights."""
    return [each for plan in plans for each in (plan, *plan.variants)]


def front_frame(plans: Sequence[Evaluation], dense: Mapping[str, float]) -> "pd.DataFrame":
    """Return the plans of a front as a table, in their order.

    The columns are those of `plan_columns`.
    """
    import pandas as pd  # noqa: PLC0415  (60 MB that scoring can do without)

    return pd.DataFrame(plan_columns(plans, dense))


def evaluation_frame(
    evaluations: Sequence[Evaluation], dense: Mapping[str, float]
) -> "pd.DataFrame":
    """Return plans as a table, whatever became of them.

    Returns:
        The columns of a front, and before them ``round``, ``windows``, ``failure`` and
        ``created_at``.
    """
    import pandas as pd  # noqa: PLC0415  (as above)

    columns = plan_columns(evaluations, dense)
    landed = pd.Series([each.created_at for each in evaluations], dtype="object")
    return pd.DataFrame(
        {
            "plan_id": columns.pop("plan_id"),
            "round": [each.round for each in evaluations],
            "windows": [each.score.windows for each in evaluations],
            "failure": [each.score.failure or "" for each in evaluations],
            "created_at": pd.to_datetime(landed, utc=True),
            **columns,
        }
    )


def role_words(*, is_on_front: bool, is_knee: bool, baselines: Iterable[str]) -> list[str]:
    """Return what a plan is in its run besides one of many, in words.

    Args:
        is_on_front: Whether none dominates it.
        is_knee: Whether it is at the knee of the front.
        baselines: Names of the baselines that it is.
    """
    named = [f"the {name} baseline" for name in baselines]
    return [*["on the front"] * is_on_front, *["at its knee"] * is_knee, *named]


def save_front(frame: "pd.DataFrame", folder: Path) -> None:
    """Write ``front.csv`` into a run folder.

    Raises:
        OutputError: If the folder cannot be written to.
    """
    text = io.StringIO()
    frame.to_csv(text, index=False)
    atomic_write_text(folder / FRONT_FILE, text.getvalue())


def within(
    evaluations: Sequence[Evaluation], budget: Budget, dense: Mapping[str, float]
) -> list[Evaluation]:
    """Return the plans with comparable scores that meet a budget.

    Raises:
        BudgetError: If there is none; the message says what the nearest plan reaches.
    """
    # costs first, which take no sum over windows: a run may have tens of thousands of plans
    costs = budget.costs_only()
    plans = fully_scored(evaluations)
    fitting = [e for e in plans if costs.admits(e.costs, dense)]
    if costs.limits != budget.limits:
        fitting = [e for e in fitting if budget.admits(e.values, dense)]
    if not fitting:
        raise BudgetError(_nothing_fits(plans, budget, dense))
    return fitting


def best_within(
    evaluations: Sequence[Evaluation],
    budget: Budget,
    dense: Mapping[str, float],
    cost_names: Sequence[str],
) -> Evaluation:
    """Return the best plan within a budget: of lowest KL, or of least cost if only KL is limited.

    Args:
        evaluations: Of a run.
        budget: The limits.
        dense: The dense model's costs.
        cost_names: Those that the run minimised; the first decides if the budget names none.

    Raises:
        BudgetError: If no plan fits; the message says what the nearest plan reaches.
    """
    return best_of(within(evaluations, budget, dense), budget, cost_names)


def best_of(plans: Sequence[Evaluation], budget: Budget, cost_names: Sequence[str]) -> Evaluation:
    """Return the best of some plans that meet a budget; see `best_within`."""
    return min(plans, key=lambda plan: rank_within(plan, budget, cost_names))


def rank_within(plan: Evaluation, budget: Budget, cost_names: Sequence[str]) -> tuple[object, ...]:
    """Return what sorts the plans that meet a budget, the best first; see `best_within`."""
    costs = tuple(plan.costs[name] for name in budget.cost_names or cost_names)
    kl = plan.score.mean("kl")
    return (*((kl, *costs) if budget.cost_names else (*costs, kl)), plan.genome)


def _nothing_fits(
    evaluations: Sequence[Evaluation], budget: Budget, dense: Mapping[str, float]
) -> str:
    if not evaluations:
        return f"`{budget}` needs a run with scored plans, got none; go on with --resume"
    nearest = min(evaluations, key=lambda evaluation: budget.excess(evaluation.values, dense))
    reached = ", ".join(
        limit.reached(nearest.values[limit.metric], dense) for limit in budget.limits
    )
    return (
        f"no plan of this run meets `{budget}`: the nearest reaches {reached}; "
        "ask for no better than that, or search on with --resume and more --evaluations"
    )
