"""Marks on the plot of a front: what a budget admits, the best plan, the chosen ones, the knee.

They are shapes and no traces, which a browser draws anew without touching thousands of plans.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluators.metric import METRICS
from planner.figures.figure_axes import Axis
from planner.figures.figure_style import PALETTES, plain, translucent
from planner.figures.front_points import FrontPoints
from planner.figures.front_traces import RunTraces
from planner.figures.front_view import FrontView, PlanName
from planner.settings.budget import Budget, Limit

Shape = dict[str, Any]
_REGION = "within the budget"
_RANK = 400
"""Of marks in legends."""
_HEXAGON = tuple((np.sin(np.pi / 3 * corner), np.cos(np.pi / 3 * corner)) for corner in range(6))


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """What stands around a plan."""

    name: str
    size: int
    """Pixels from side to side."""
    is_round: bool = False
    """Else it is a hexagon, as Plotly shows all other shapes in its legend."""
    is_filled: bool = False
    """With the colour of what a budget admits."""


_KNEE = _Mark(name="knee", size=20)
_BEST = _Mark(name="best within the budget", size=16, is_filled=True)
_CHOSEN = _Mark(name="selected", size=22, is_round=True)
_MARKS = (_KNEE, _BEST, _CHOSEN)


def mark_shapes(runs: Sequence[RunTraces], view: FrontView) -> list[Shape]:
    """Return all marks on a plot, as shapes of its layout; legends name each kind once."""
    shapes = _feasible(runs, view.budget)
    for mark in _MARKS:
        places = [place for run in runs for place in run.places_of(_named(run, mark, view))]
        for number, place in enumerate(places):
            shape = _shape(mark, place, view)
            shapes.append(shape | {"showlegend": not number, "legendrank": _RANK})
    return shapes


def _region_name(runs: Sequence[RunTraces]) -> str:
    """Return what the region is called: shares of other dense models come to other amounts."""
    scene, first = runs[0].scene, runs[0].points
    shown = [axis.metric.name for axis in (scene.x, scene.y) if axis.metric.is_cost]
    is_shared = all(
        run.points.dense.get(name) == first.dense.get(name) for run in runs for name in shown
    )
    return _REGION if is_shared else f"{_REGION}, for {first.name}"


def _named(run: RunTraces, mark: _Mark, view: FrontView) -> list[str]:
    """Return the ids of the plans of a run that have a mark."""
    if mark is _KNEE:
        return [run.points.knee] if run.points.knee else []
    plans: Sequence[PlanName | None] = view.selected if mark is _CHOSEN else [view.best]
    return [plan[1] for plan in plans if plan is not None and plan[0] == run.points.name]


def _shape(mark: _Mark, place: tuple[float, float], view: FrontView) -> Shape:
    palette, radius = PALETTES[view.theme], mark.size / 2
    shape: Shape = {
        "name": mark.name,
        "xsizemode": "pixel",
        "ysizemode": "pixel",
        "xanchor": place[0],
        "yanchor": place[1],
        "line": {"color": palette.text, "width": 1.0 if mark.is_filled else 2.0},
    }
    if mark.is_filled:
        shape["fillcolor"] = palette.feasible
    if mark.is_round:
        ends = {"x0": -radius, "x1": radius, "y0": -radius, "y1": radius}
        return shape | {"type": "circle"} | ends
    corners = (f"{radius * right:.2f},{radius * up:.2f}" for right, up in _HEXAGON)
    return shape | {"type": "path", "path": f"M{'L'.join(corners)}Z"}


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
        "name": plain(_region_name(runs)),
        "showlegend": True,
        "legendrank": _RANK - 1,
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
    dense = points[0].dense
    if not limits or (axis.metric.is_cost and limits[0].metric not in dense):
        return None
    bound = _place(limits[0], axis, dense)
    if not axis.metric.is_maximised:
        return 0.0, bound
    places = np.concatenate([axis.values(each, "search") for each in points])
    return bound, max(bound, float(np.max(places[np.isfinite(places)], initial=bound)))


def _place(limit: Limit, axis: Axis, dense: Mapping[str, float]) -> float:
    if axis.is_share:
        return limit.value if limit.relative else limit.value / dense[limit.metric]
    return limit.absolute(dense) / axis.scale
