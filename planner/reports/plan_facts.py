"""What a run knows of one plan in words: its costs and its scores."""

from collections.abc import Mapping
from dataclasses import dataclass

from evaluators.metric import METRICS, Measurement, Metric, exponential, metric_names
from planner.results.run_plan import RunPlan


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """One cost of a plan."""

    metric: Metric
    amount: str
    """In its unit."""
    share: float
    """Of the dense model's."""


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One quality of a plan on all texts."""

    metric: Metric
    """Shown as its exponential, if that has a name."""
    cells: Mapping[str, str]
    """By text, as `RunPlan.scores` names it; none where it was not measured."""


def cost_rows(plan: RunPlan) -> list[CostRow]:
    """Return what a plan costs; what counts zeros is left out if none of its weights is zero."""
    costs = plan.evaluation.costs
    hidden = metric_names("sparse") if costs.get("nonzero") == costs.get("params") else ()
    return [
        CostRow(metric=METRICS[name], amount=METRICS[name].amount(value), share=share)
        for name, value, share in plan.costs().itertuples(index=False)
        if name not in hidden
    ]


def score_rows(plan: RunPlan) -> list[ScoreRow]:
    """Return how well a plan does, each figure with its standard error."""
    rows = []
    for name in metric_names("quality"):
        metric = METRICS[name]
        cells = {
            text: _score(metric, measured[name])
            for text, measured in plan.quality.items()
            if name in measured
        }
        if cells:
            rows.append(ScoreRow(metric=metric, cells=cells))
    return rows


def _score(metric: Metric, measured: Measurement) -> str:
    value, error = measured.value, measured.standard_error
    if metric.exponential:  # whose error grows with it
        return f"{metric.amount(value)} ± {exponential(value) * error:.2f}"
    if metric.unit.startswith("share"):
        return f"{metric.amount(value)} ± {error:.1%}"
    return str(measured)
