"""Marks on the plot of a front: what a budget admits, the best plan, the chosen ones, the knee.

They are shapes and no traces, which a browser draws anew without touching thousands of plans.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluators.metric import METRICS
from planner.figures.figure_axes import Axis
from planner.figures.figure_style import PALETTES, plain, translucent
from planner.figures.front_points import FrontPoints
from planner.figures.front_traces import RunTraces, Scene, Trace
from planner.figures.front_view import FrontView, PlanName
from planner.settings.budget import Budget, Limit

Shape = dict[str, Any]
_REGION = "within the budget"
_RANK = 400
"""Of marks in legends."""


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """What stands around a plan."""

    name: str
    symbol: str
    """As it looks in the legend."""
    size: int
    """Pixels from side to side."""
    outline: tuple[tuple[float, float], ...] = ()
    """Corners, in halves of the size from the plan; none: a circle."""
    is_filled: bool = False
    """With the colour of what a budget admits."""


_TIPS = [(np.pi / 5 * corner, 1.0 if corner % 2 == 0 else 0.38) for corner in range(10)]
_KNEE = _Mark(
    name="knee",
    symbol="diamond-tall-open",
    size=20,
    outline=((0, -1), (0.6, 0), (0, 1), (-0.6, 0)),
)
_BEST = _Mark(
    name="best within the budget",
    symbol="star",
    size=18,
    outline=tuple((reach * np.sin(angle), reach * np.cos(angle)) for angle, reach in _TIPS),
    is_filled=True,
)
_CHOSEN = _Mark(name="selected", symbol="circle-open", size=18)
_MARKS = (_KNEE, _BEST, _CHOSEN)


def mark_shapes(runs: Sequence[RunTraces], view: FrontView) -> list[Shape]:
    """Return all marks on a plot, as shapes of its layout."""
    shapes = _feasible(runs, view.budget)
    for mark in _MARKS:
        for run in runs:
            named = _named(run, mark, view)
            shapes += [_shape(mark, x, y, run.scene) for x, y in run.places_of(named)]
    return shapes


def mark_keys(runs: Sequence[RunTraces], view: FrontView) -> Iterator[Trace]:
    """Yield what names the marks in the legend: traces without points."""
    if runs and (view.names_all_marks or _feasible(runs, view.budget)):
        yield _key(_region_name([run.points for run in runs]), _RANK - 1, _region_marker(view))
    for rank, mark in enumerate(_MARKS, start=_RANK):
        if runs and (view.names_all_marks or any(_named(run, mark, view) for run in runs)):
            palette = PALETTES[view.theme]
            marker = {
                "symbol": mark.symbol,
                "size": mark.size,
                "color": palette.feasible if mark.is_filled else palette.text,
                "line": {"color": palette.text, "width": _width(mark)},
            }
            yield _key(mark.name, rank, marker)


def _key(name: str, rank: int, marker: dict[str, Any]) -> Trace:
    return {
        "type": "scatter",
        "x": [None],
        "y": [None],
        "mode": "markers",
        "name": plain(name),
        "legendrank": rank,
        "hoverinfo": "skip",
        "marker": marker,
    }


def _region_marker(view: FrontView) -> dict[str, Any]:
    colour = PALETTES[view.theme].feasible
    line = {"color": colour, "width": 1.5}
    return {"symbol": "square", "size": 14, "color": translucent(colour, 0.1), "line": line}


def _region_name(points: Sequence[FrontPoints]) -> str:
    """Return what the region is called: shares of other dense models come to other amounts."""
    is_shared = all(each.dense == points[0].dense for each in points)
    return _REGION if is_shared else f"{_REGION}, for {points[0].name}"


def _named(run: RunTraces, mark: _Mark, view: FrontView) -> list[str]:
    """Return the ids of the plans of a run that have a mark."""
    if mark is _KNEE:
        return [run.points.knee] if run.points.knee else []
    plans: Sequence[PlanName | None] = view.selected if mark is _CHOSEN else [view.best]
    return [plan[1] for plan in plans if plan is not None and plan[0] == run.points.name]


def _shape(mark: _Mark, x: float, y: float, scene: Scene) -> Shape:
    palette, radius = PALETTES[scene.theme], mark.size / 2
    shape: Shape = {
        "name": mark.name,
        "xsizemode": "pixel",
        "ysizemode": "pixel",
        "xanchor": x,
        "yanchor": y,
        "line": {"color": palette.text, "width": _width(mark)},
    }
    if mark.is_filled:
        shape["fillcolor"] = palette.feasible
    if not mark.outline:
        ends = {"x0": -radius, "x1": radius, "y0": -radius, "y1": radius}
        return shape | {"type": "circle"} | ends
    corners = (f"{radius * right:.2f},{radius * up:.2f}" for right, up in mark.outline)
    return shape | {"type": "path", "path": f"M{'L'.join(corners)}Z"}


def _width(mark: _Mark) -> float:
    return 1.0 if mark.is_filled else 2.0


def _feasible(runs: Sequence[RunTraces], budget: Budget | None) -> list[Shape]:
    """Return the rectangle that a budget admits, as far as it limits the axes shown."""
    if budget is None or not runs:
        return []
    points, scene = [run.points for run in runs], runs[0].scene
    sides = {"x": _side(scene.x, budget, points), "y": _side(scene.y, budget, points)}
    if not any(sides.values()):
        return []
    colour = PALETTES[scene.theme].feasible
    shape: Shape = {
        "name": _REGION,
        "type": "rect",
        "layer": "below",
        "fillcolor": translucent(colour, 0.1),
        "line": {"color": colour, "width": 1.5, "dash": "dash"},
    }
    for name, side in sides.items():
        start, end = side or (0.0, 1.0)
        shape |= {f"{name}0": start, f"{name}1": end}
        shape[f"{name}ref"] = name if side else f"{name} domain"
    return [shape]


def _side(axis: Axis, budget: Budget, points: Sequence[FrontPoints]) -> tuple[float, float] | None:
    """Return from where to where a budget admits places along an axis."""
    limits = [limit for limit in budget.limits if METRICS[limit.metric] is axis.metric]
    if not limits:
        return None
    bound = _place(limits[0], axis, points[0].dense)
    if not axis.metric.is_maximised:
        return 0.0, bound
    places = np.concatenate([axis.values(each, "search") for each in points])
    return bound, max(bound, float(np.max(places[np.isfinite(places)], initial=bound)))


def _place(limit: Limit, axis: Axis, dense: Mapping[str, float]) -> float:
    if axis.is_share:
        return limit.value if limit.relative else limit.value / dense[limit.metric]
    return limit.absolute(dense) / axis.scale
