"""Plans as the rows of a table in the page, which asks for some of them at a time."""

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import METRICS, metric_names
from planner.browse.brush import Inside
from planner.browse.table.row_request import Column as Values
from planner.browse.table.row_request import RowRequest
from planner.figures.figure_axes import SPLITS, Axis
from planner.figures.front_points import FrontPoints
from planner.results.front import role_words

_FORMAT = {"function": "params.value == null ? '' : d3.format(',.4~g')(params.value)"}
_SHARE = {"function": "params.value == null ? '' : d3.format('.1%')(params.value)"}
_LEAST_WIDTH, _SIGN_WIDTH, _PADDING = 118, 8, 40
"""Pixels of a column: no word of a heading is broken."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula, which it would run."""
_DIGITS = 6
_MOST_DIGITS = 300
_KINDS = {
    "recovered": ["recovered weights"],
    "dominated": ["dominated"],
    "partial": ["given up early"],
    "failed": ["failed"],
}
"""What plans are that are not on the front."""
Column = dict[str, Any]
Rows = NDArray[np.intp]


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
        column = {"field": name, "headerName": header, "valueFormatter": shown}
        longest = max(map(len, header.split()))
        columns.append(column | {"width": max(_LEAST_WIDTH, _SIGN_WIDTH * longest + _PADDING)})
    return columns


def _harmless(cell: Any) -> Any:
    is_formula = isinstance(cell, str) and cell.startswith(_FORMULA)
    return f"'{cell}" if is_formula else cell


class PlanTable:
    """The plans that the table lists, of each run those best in its first cost first.

    Args:
        points: Of the chosen runs.
        shows_all: Whether it lists more than the fronts and the baselines.
        brushed: Those it lists if a brush chose some; `None`: none did.
    """

    def __init__(
        self, points: Sequence[FrontPoints], *, shows_all: bool, brushed: Inside | None
    ) -> None:
        listed = [
            np.flatnonzero(brushed[each.name])
            if brushed is not None
            else np.arange(len(each.frame))
            if shows_all
            else _usual(each)
            for each in points
        ]
        self._points = points
        self._run_of = np.repeat(np.arange(len(points)), [len(rows) for rows in listed])
        self._row_of = np.concatenate([np.array([], dtype=np.intp), *listed])
        self._scales = {name: scale for name, _, scale in _measures(points)}
        self._names = ("plan", "run", "what", *self._scales)
        self.total = sum(len(each.frame) for each in points)
        """Plans of the runs, listed or not."""

    def found(self, asked: RowRequest) -> Rows:
        """Return which of the plans pass the table's filters, in its order."""
        everything = np.arange(len(self._row_of))

        def column(name: str) -> Values | None:
            return self._values(name, everything) if name in self._names else None

        return asked.found(len(everything), column)

    def rows(self, chosen: Rows) -> list[dict[str, Any]]:
        """Return some of the plans as rows."""
        values = [_as_json(self._values(name, chosen)) for name in self._names]
        rows = [dict(zip(self._names, row, strict=True)) for row in zip(*values, strict=True)]
        return [{"key": key_of(row["run"], row["plan"]), **row} for row in rows]

    def csv(self, chosen: Rows) -> str:
        """Return some of the plans as CSV, under the headings of the table.

        Names that a spreadsheet would run as a formula stand behind an apostrophe.
        """
        columns, text = table_columns(self._points), StringIO()
        lines = csv.writer(text)
        lines.writerow(column["headerName"] for column in columns)
        values = [_as_json(self._values(column["field"], chosen)) for column in columns]
        for cells in zip(*values, strict=True):
            lines.writerow(map(_harmless, cells))
        return text.getvalue()

    def _values(self, name: str, chosen: Rows) -> Values:
        """Return a column of some of the plans."""
        run_of, row_of = self._run_of[chosen], self._row_of[chosen]
        values = np.empty(len(chosen), dtype=np.float64 if name in self._scales else object)
        for place, each in enumerate(self._points):
            is_of_run = run_of == place
            values[is_of_run] = self._of_run(each, name, row_of[is_of_run])
        return values

    def _of_run(self, points: FrontPoints, name: str, rows: Rows) -> Values:
        if name in self._scales:
            return _rounded(points.values(name)[rows] / self._scales[name])
        if name == "what":
            return np.array(_described(points, rows), dtype=object)
        if name == "run":
            return np.full(len(rows), points.name, dtype=object)
        return points.frame["plan_id"].to_numpy(dtype=object)[rows]


def described_plans(points: FrontPoints) -> Iterator[tuple[str, str]]:
    """Yield the plans of the front and the baselines of a run, each with what it is."""
    listed, cost = _usual(points), points.cost_names[0]
    plan_ids, shares = points.frame["plan_id"].iloc[listed], points.values(f"{cost}_x")[listed]
    for plan_id, share, what in zip(plan_ids, shares, _described(points, listed), strict=True):
        yield plan_id, f"{share:.3f}× {cost}, {what}"


def _described(points: FrontPoints, rows: Rows) -> list[str]:
    baselines: dict[str, list[str]] = {}
    for name, plan_id in points.baselines.items():
        baselines.setdefault(plan_id, []).append(name)
    frame = points.frame.iloc[rows]
    described = []
    for kind, plan_id in zip(frame["kind"], frame["plan_id"], strict=True):
        known = baselines.get(plan_id, ())
        is_knee = plan_id == points.knee
        roles = role_words(is_on_front=kind == "front", is_knee=is_knee, baselines=known)
        described.append(" · ".join([*_KINDS.get(kind, ()), *roles]))
    return described


def _usual(points: FrontPoints) -> Rows:
    """Return the plans of the front, those with recovered weights, and the baselines."""
    of_front = points.rows_of_kind("front", "recovered")
    cost = points.values(points.cost_names[0])[of_front]
    baselines = points.rows_of_plans(tuple(points.baselines.values()))
    return np.concatenate([of_front[np.argsort(-cost)], np.setdiff1d(baselines, of_front)])


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


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values to as many digits as anybody reads, none that are no numbers."""
    is_known = np.isfinite(values) & (values != 0)
    exponents = np.floor(np.log10(np.abs(values, where=is_known, out=np.ones_like(values))))
    scale = 10.0 ** np.clip(_DIGITS - 1 - exponents, -_MOST_DIGITS, _MOST_DIGITS)
    rounded = np.where(is_known, np.round(values * scale) / scale, values)
    return np.where(np.isfinite(values), rounded, np.nan)


def _as_json(values: Values) -> list[Any]:
    """Return a column as JSON knows it: nothing for what was not measured."""
    if values.dtype != np.float64:
        return list(values)
    known = values.astype(object)
    known[np.isnan(values)] = None
    return list(known)
