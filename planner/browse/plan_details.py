"""All that is known of one plan, gathered from its run and from its exports."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.metric import METRICS, metric_names
from planner.figures.figure_axes import SPLITS
from planner.reports.known_exports import KnownExport, known_exports
from planner.reports.plan_facts import cost_rows, score_rows
from planner.results.layer_strips import kind_name
from planner.run import Run
from search_spaces.errors import InputError, in_words

if TYPE_CHECKING:
    import pandas as pd

Rows = list[list[str]]


@dataclass(frozen=True, kw_only=True)
class PlanDetails:
    """What the page shows of one plan, in words and tables."""

    plan_id: str
    roles: tuple[str, ...]
    """What it is besides, such as the knee of its front."""
    layers: "pd.DataFrame | None"
    """What it keeps; `None` if the folder does not say."""
    drops: str
    """Which layers' parts it drops whole, in a sentence; or why nobody knows."""
    costs: Rows
    scores: Rows
    """One row a metric, one column a text."""
    predicted: str
    """Its speed by the run's latency table, in a sentence."""
    exports: tuple[KnownExport, ...]
    json: str
    """The plan in whole, or why it is not at hand."""
    is_whole: bool
    """Whether it is."""


def details_of(run: Run, plan_id: str, root: Path) -> PlanDetails:
    """Return what is known of a plan.

    Args:
        run: The run.
        plan_id: The plan's id.
        root: A folder outside of which no export is looked for.

    Raises:
        InputError: If the run has no such plan.
    """
    plan = run.plan(plan_id)
    layers, drops = None, ""
    try:
        layers = plan.layers()
        drops = dropped(layers)
    except InputError as error:
        drops = in_words(error)
    is_whole, text = True, ""
    try:
        text = plan.to_json()
    except InputError as error:
        is_whole, text = False, in_words(error)
    costs = [
        [row.metric.label, row.amount, f"{row.share:.3f}×"]
        for row in cost_rows(plan)
        if row.metric.kind != "measured"  # a sentence of its own
    ]
    scores = [
        [row.metric.exponential or row.metric.label, *(row.cells.get(t, "–") for t in SPLITS)]
        for row in score_rows(plan)
    ]
    return PlanDetails(
        plan_id=plan_id,
        roles=tuple(run.roles(plan_id)),
        layers=layers,
        drops=drops,
        costs=costs,
        scores=scores,
        predicted=_predicted(plan.evaluation.costs, run.dense),
        exports=known_exports(run, root).get(plan_id, ()),
        json=text,
        is_whole=is_whole,
    )


def dropped(layers: "pd.DataFrame") -> str:
    """Return which layers' parts a plan drops whole, in a sentence.

    Args:
        layers: As `RunPlan.layers` returns it.
    """
    gone = layers.loc[layers["kept"] == 0]
    parts = [
        f"{kind_name(str(kind))} of {'layer' if len(of_kind) == 1 else 'layers'} "
        f"{', '.join(map(str, of_kind['layer']))}"
        for kind, of_kind in gone.groupby("component", sort=False)
    ]
    if not parts:
        return "It drops no part of any layer whole."
    return f"It drops the {'; the '.join(parts)}."


SCORE_HEADS = ["", *SPLITS.values()]
"""Of the columns of scores."""


def _predicted(costs: Mapping[str, float], dense: Mapping[str, float]) -> str:
    known = [n for n in metric_names("measured") if n in costs and dense.get(n)]
    told = [
        f"{METRICS[n].label}: {METRICS[n].amount(costs[n])}, {costs[n] / dense[n]:.2f}× of dense"
        for n in known
    ]
    return "; ".join(told) or "The run measured no latencies, so that it predicts none."
