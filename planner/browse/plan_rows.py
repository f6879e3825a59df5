"""Plans as the rows of a table in the page."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import METRICS, metric_names
from planner.figures.figure_axes import SPLITS, Axis
from planner.figures.front_points import FrontPoints

_FORMAT = {"function": "params.value == null ? '' : d3.format(',.4~g')(params.value)"}
_SHARE = {"function": "params.value == null ? '' : d3.format('.1%')(params.value)"}
_DIGITS = 6
_MOST_DIGITS = 300
_KINDS = {
    "front": "on the front",
    "dominated": "dominated",
    "partial": "given up early",
    "failed": "failed",
}
Column = dict[str, Any]


def key_of(run: str, plan_id: str) -> str:
    """Return what names a row."""
    return f"{run}\n{plan_id}"


def plan_of(key: str) -> list[str]:
    """Return the run and the plan that a row's name stands for."""
    run, _, plan_id = key.rpartition("\n")
    return [run, plan_id]


def table_columns(points: Sequence[FrontPoints]) -> list[Column]:
    """Return the columns of the table, for AG Grid."""
    columns: list[Column] = [
        {"field": "plan", "headerName": "plan", "pinned": "left", "width": 130},
        {"field": "what", "headerName": "what it is", "width": 240},
    ]
    if len(points) > 1:
        columns.insert(1, {"field": "run", "headerName": "run", "width": 140})
    for column in columns:
        column |= {"filter": "agTextColumnFilter"}
    for name, header, _ in _measures(points):
        is_share = METRICS.get(name.removeprefix("fresh_").removeprefix("holdout_"))
        shares = is_share is not None and is_share.unit.startswith("share")
        shown = _SHARE if shares else _FORMAT
        columns.append({"field": name, "headerName": header, "valueFormatter": shown})
    return columns


def table_rows(
    points: Sequence[FrontPoints], *, shows_all: bool, brushed: Collection[str] | None
) -> list[dict[str, Any]]:
    """Return the plans that the table lists, best of the first cost first.

    Args:
        points: Of the chosen runs.
        shows_all: Whether it lists more than the fronts and the baselines.
        brushed: Ids of those it lists if a brush chose some; `None`: none did.
    """
    measures = _measures(points)
    rows: list[dict[str, Any]] = []
    for each in points:
        listed = _listed(each, shows_all=shows_all, brushed=brushed)
        frame = each.frame.iloc[listed]
        columns: dict[str, Sequence[Any]] = {
            "key": [key_of(each.name, plan_id) for plan_id in frame["plan_id"]],
            "plan": frame["plan_id"].tolist(),
            "run": [each.name] * len(frame),
            "what": _described(each, listed),
        }
        for name, _, scale in measures:
            columns[name] = _known(each.values(name)[listed] / scale)
        names = list(columns)
        values = zip(*columns.values(), strict=True)
        rows += [dict(zip(names, row, strict=True)) for row in values]
    return rows


def described_plans(points: FrontPoints) -> Iterator[tuple[str, str]]:
    """Yield the plans of the front and the baselines of a run, each with what it is."""
    listed, cost = _listed(points, shows_all=False, brushed=None), points.cost_names[0]
    plan_ids, shares = points.frame["plan_id"].iloc[listed], points.values(f"{cost}_x")[listed]
    for plan_id, share, what in zip(plan_ids, shares, _described(points, listed), strict=True):
        yield plan_id, f"{share:.3f}× {cost}, {what}"


def _described(points: FrontPoints, rows: NDArray[np.intp]) -> list[str]:
    roles, frame = _roles(points), points.frame.iloc[rows]
    return [
        " · ".join([_KINDS[kind], *roles.get(plan_id, ())])
        for kind, plan_id in zip(frame["kind"], frame["plan_id"], strict=True)
    ]


def _listed(
    points: FrontPoints, *, shows_all: bool, brushed: Collection[str] | None
) -> NDArray[np.intp]:
    if brushed is not None:
        return points.rows_of_plans(tuple(brushed))
    if shows_all:
        return np.arange(len(points.frame))
    of_front = points.rows_of_kind("front")
    cost = points.values(points.cost_names[0])[of_front]
    baselines = points.rows_of_plans(tuple(points.baselines.values()))
    return np.concatenate([of_front[np.argsort(-cost)], np.setdiff1d(baselines, of_front)])


def _roles(points: FrontPoints) -> Mapping[str, list[str]]:
    """Return what plans are besides, by id."""
    roles: dict[str, list[str]] = {}
    for name, plan_id in points.baselines.items():
        roles.setdefault(plan_id, []).append(f"{name} baseline")
    if points.knee:
        roles.setdefault(points.knee, []).append("knee")
    return roles


def _measures(points: Sequence[FrontPoints]) -> list[tuple[str, str, float]]:
    """Return what is measured of plans: a column each, its heading, and what its unit stands for.

    Costs come first, each also as a share; then the quality on each text.
    """
    if not points:
        return []
    dense = points[0].dense
    measures: list[tuple[str, str, float]] = []
    for name in (n for n in METRICS if any(n in each.shown_costs for each in points)):
        axis, unit = Axis.of(name, dense), METRICS[name].label
        if METRICS[name].has_share or name in points[0].cost_names:
            measures.append((f"{name}_x", f"{unit}, × of dense", 1.0))
        suffix = f", {axis.suffix.strip()}" if axis.suffix.strip() else ""
        measures.append((name, f"{unit}{suffix}", axis.scale))
    columns = {column for each in points for column in each.frame.columns}
    for split, text in SPLITS.items():
        prefix = "" if split == "search" else f"{split}_"
        for name in metric_names("quality"):
            shown = METRICS[name].exponential
            label = "KL" if name == "kl" else shown or METRICS[name].label
            column = f"{prefix}{shown or name}"
            if column in columns and (split != "search" or METRICS[name].is_searched):
                measures.append((column, f"{label}, {text}", 1.0))
                if name == "kl":
                    measures.append((f"{column}_se", f"± its error, {text}", 1.0))
    return measures


def _known(values: NDArray[np.float64]) -> list[float | None]:
    """Return values as JSON knows them, to as many digits as anybody reads."""
    is_known = np.isfinite(values) & (values != 0)
    exponents = np.floor(np.log10(np.abs(values, where=is_known, out=np.ones_like(values))))
    scale = 10.0 ** np.clip(_DIGITS - 1 - exponents, -_MOST_DIGITS, _MOST_DIGITS)
    known = np.where(is_known, np.round(values * scale) / scale, values).astype(object)
    known[~np.isfinite(values)] = None
    return list(known)
