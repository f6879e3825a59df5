"""What is known of plans, column by column: tens of thousands of them in a blink."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import (
    COST_KINDS,
    METRICS,
    Measurement,
    exponential,
    metric_names,
    searched_names,
)
from planner.runs.records import RESCORE_SPLITS, Evaluation, RescoreSplit

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Columns = dict[str, Sequence[object] | Floats]
OPTIMISM = "optimism"
"""Name of the column of the searched less the fresh KL."""


def plan_columns(plans: Sequence[Evaluation], dense: Mapping[str, float]) -> Columns:
    """Return the columns of a table of plans, in their order.

    Returns:
        ``plan_id``; each quality metric and its standard error (``kl``, ``kl_se``);
        ``perplexity``; each cost, and as a share of the dense model's (``params_x``); the quality
        again on fresh and on held-out text if any was re-scored (``fresh_kl``, ``holdout_kl``, …);
        ``optimism``, the searched less the fresh KL: below 0 where the search flatters.
        What one plan lacks and another has is not a number.
    """
    columns: Columns = {"plan_id": [plan.plan_id for plan in plans]}
    found = {name for plan in plans for name in plan.score.by_window} or set(searched_names())
    for name in filter(found.__contains__, metric_names("quality")):
        columns |= _quality_columns("", name, *_searched(plans, name))
    names = [name for name in metric_names(*COST_KINDS) if name in dense]
    costs = {n: _floats([plan.costs.get(n, math.nan) for plan in plans]) for n in names}
    shares = {f"{n}_x": _shares(values, dense[n]) for n, values in costs.items()}
    columns |= costs | shares
    for split in RESCORE_SPLITS:
        columns |= _rescored_columns(plans, split)
    if "fresh_kl" in columns:
        searched, fresh = (np.asarray(columns[name], np.float64) for name in ("kl", "fresh_kl"))
        with np.errstate(invalid="ignore"):  # of a ruined candidate both may be infinite
            columns[OPTIMISM] = searched - fresh
    return columns


def with_every_column(
    frame: "pd.DataFrame", dense: Mapping[str, float], first: Sequence[str] = ()
) -> "pd.DataFrame":
    """Return a table of plans with the columns that any run of this model has, known or not.

    Args:
        frame: With columns of `plan_columns`, and others, which come last.
        dense: The dense model's costs.
        first: Other columns that come first.
    """
    costs = [name for name in metric_names(*COST_KINDS) if name in dense]
    names = [*first, "plan_id"]
    names += [column for name in searched_names() for column in _quality_names("", name)]
    names += [*costs, *(f"{name}_x" for name in costs)]
    for split in RESCORE_SPLITS:
        for name in metric_names("quality"):
            names += _quality_names(f"{split}_", name)
    names.append(OPTIMISM)
    return frame.reindex(columns=[*names, *(name for name in frame if name not in names)])


def plan_row(plan: Evaluation, dense: Mapping[str, float]) -> dict[str, object]:
    """Return one plan's row of the table, by column."""
    return {name: values[0] for name, values in plan_columns([plan], dense).items()}


def _searched(plans: Sequence[Evaluation], name: str) -> tuple[Floats, Floats]:
    """Return a metric on the search text with its errors, ``(plans,)`` each.

    Those of `Score.quality`, for all plans at once that have as many windows.
    """
    values, errors = np.full(len(plans), math.nan), np.full(len(plans), math.nan)
    rows_by_count = defaultdict[int, list[int]](list)
    for row, plan in enumerate(plans):
        rows_by_count[len(plan.score.by_window.get(name, ()))].append(row)
    rows_by_count.pop(0, None)
    for count, rows in rows_by_count.items():
        windows = np.array([plans[row].score.by_window[name] for row in rows])  # (rows, count)
        with np.errstate(invalid="ignore"):  # a ruined candidate's values may be infinite
            values[rows] = windows.mean(axis=1)
            if count > 1:
                errors[rows] = windows.std(axis=1, ddof=1) / math.sqrt(count)
    return values, errors


def _rescored_columns(plans: Sequence[Evaluation], split: RescoreSplit) -> Columns:
    columns: Columns = {}
    rescored: list[Mapping[str, Measurement]] = [getattr(plan, split) for plan in plans]
    found = {name for measured in rescored for name in measured}
    for name in filter(found.__contains__, metric_names("quality")):
        values, errors = np.full(len(plans), math.nan), np.full(len(plans), math.nan)
        for row, measured in enumerate(rescored):
            if name in measured:
                values[row] = measured[name].value
                errors[row] = measured[name].standard_error
        columns |= _quality_columns(f"{split}_", name, values, errors)
    return columns


def _quality_columns(prefix: str, name: str, values: Floats, errors: Floats) -> Columns:
    columns = [values, errors]
    if METRICS[name].exponential:
        columns.append(_floats([exponential(value) for value in values.tolist()]))
    return dict(zip(_quality_names(prefix, name), columns, strict=True))


def _quality_names(prefix: str, name: str) -> list[str]:
    """Return what the columns of a metric are called: value, error, and exponential if shown."""
    shown = METRICS[name].exponential
    return [f"{prefix}{name}", f"{prefix}{name}_se", *([f"{prefix}{shown}"] if shown else [])]


def _shares(values: Floats, dense: float) -> Floats:
    return values / dense if dense else np.zeros(len(values))


def _floats(values: Sequence[float]) -> Floats:
    return np.array(values, dtype=np.float64)
