"""The front of one run or several as a scatter plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.metric import METRICS
from planner.figures.figure_axes import SPLITS, Axis, Split
from planner.figures.figure_style import PALETTES, Theme, plain, styled, translucent
from planner.figures.front_points import FrontPoints
from planner.figures.front_traces import RunTraces, Scene, Trace
from planner.settings.budget import Budget, Limit

if TYPE_CHECKING:
    import plotly.graph_objects as go

PlanName = tuple[str, str]
"""A run's name and a plan's id, as points carry them: runs of one model share ids."""
_HEADROOM = 1.15
"""How far an axis goes beyond the front: what is far worse is there for those who zoom out."""


@dataclass(frozen=True, kw_only=True)
class FrontView:
    """What is shown of fronts, and how."""

    x: str
    """A column of a table of plans: a cost, its share of the dense model's, or a quality."""
    y: str = "kl"
    colour: str | None = None
    budget: Budget | None = None
    """Its limits on the axes shown are shaded."""
    best: PlanName | None = None
    """The plan that is best within it."""
    selected: tuple[PlanName, ...] = ()
    shows_dominated: bool = True
    splits: tuple[Split, ...] = tuple(SPLITS)
    theme: Theme = "light"


def front_figure(points: Sequence[FrontPoints], view: FrontView) -> "go.Figure":
    """Return the fronts of runs as a scatter plot, the first run's in front of the others.

    Every point carries its run's name and its plan's id as ``customdata``. Zoom and hidden series
    survive updates of the same axes.

    Raises:
        SettingsError: If an axis is none.
    """
    dense = points[0].dense if points else {}
    scene = Scene(
        x=Axis.of(view.x, dense),
        y=Axis.of(view.y, dense),
        colour=Axis.of(view.colour, dense) if view.colour else None,
        splits=view.splits,
        theme=view.theme,
        is_single=len(points) < 2,
    )
    runs = [
        RunTraces(points=each, scene=scene, position=position)
        for position, each in enumerate(points)
    ]
    figure = styled(_traces(runs, view, scene), view.theme)
    figure.update_layout(
        uirevision="front",
        xaxis=_axis(scene.x, points, scene),
        yaxis=_axis(scene.y, points, scene),
        legend={"orientation": "h", "y": -0.18, "yanchor": "top", "itemwidth": 40},
        hovermode="closest",
        shapes=_feasible(scene, view.budget, points),
        coloraxis=_colour_axis(scene),
    )
    return figure


def _traces(runs: Sequence[RunTraces], view: FrontView, scene: Scene) -> list[Trace]:
    """Return what runs show, from behind to before: the marks of an answer come last."""
    palette = PALETTES[view.theme]
    ring = {"symbol": "circle-open", "size": 17, "color": palette.text, "line": {"width": 2.5}}
    edge = {"color": palette.text, "width": 1}
    star = {"symbol": "star", "size": 17, "color": palette.feasible, "line": edge}
    knee = {"symbol": "diamond-tall-open", "size": 15, "color": palette.text, "line": {"width": 2}}
    layers = [
        *([run.clouds() for run in runs] if view.shows_dominated else []),
        *(run.fronts() for run in reversed(runs)),
        *(run.recovered() for run in runs),
        *(run.baselines() for run in runs),
        _dense_marks([run.points for run in runs], scene),
        *(run.rings([run.points.knee], "knee", knee) for run in runs if run.points.knee),
        *(run.rings(_of_run(run, [view.best]), "best within the budget", star) for run in runs),
        *(run.rings(_of_run(run, view.selected), "selected", ring) for run in runs),
    ]
    return [trace for layer in layers for trace in layer]


def _of_run(run: RunTraces, plans: Sequence[PlanName | None]) -> list[str]:
    """Return the ids of those plans that are a run's."""
    return [plan[1] for plan in plans if plan is not None and plan[0] == run.points.name]


def _dense_marks(points: Sequence[FrontPoints], scene: Scene) -> list[Trace]:
    """Return the dense model as a mark, each one once."""
    places = {(scene.x.dense_value(each), scene.y.dense_value(each)) for each in points}
    known = [place for place in places if np.isfinite(place).all()]
    if not known:
        return []
    text = PALETTES[scene.theme].text
    marker = {"symbol": "square-open", "size": 12, "color": text, "line": {"width": 2}}
    return [
        {
            "type": "scatter",
            "x": [x for x, _ in known],
            "y": [y for _, y in known],
            "mode": "markers",
            "name": "dense model",
            "legendrank": 390,
            "marker": marker,
            "hovertemplate": "dense model<br>%{x}<br>%{y}<extra></extra>",
        }
    ]


def _axis(axis: Axis, points: Sequence[FrontPoints], scene: Scene) -> dict[str, Any]:
    layout = axis.ticks | {"title": {"text": plain(axis.label)}, "uirevision": axis.name}
    if span := _span(axis, points, scene):
        layout["range"] = span
    return layout


def _span(axis: Axis, points: Sequence[FrontPoints], scene: Scene) -> list[float]:
    """Return where an axis begins and ends to show all fronts with their errors."""
    found = [axis.dense_value(each) for each in points]
    for each in points:
        rows = each.rows_of_kind("front")
        for split in scene.splits:
            found += [bound for bounds in axis.bounds(each, split) for bound in bounds[rows]]
    finite = np.array(found)[np.isfinite(found)]
    if not len(finite):
        return []
    lowest, highest = float(finite.min()), float(finite.max())
    margin = (_HEADROOM - 1) / 2 * (highest - lowest or abs(highest) or 1.0)
    starts_at_zero = axis.name == "kl"
    return [-margin / 2 if starts_at_zero else lowest - margin, highest + margin]


def _feasible(
    scene: Scene, budget: Budget | None, points: Sequence[FrontPoints]
) -> list[dict[str, Any]]:
    """Return the rectangle that a budget admits, as far as it limits the axes shown."""
    if budget is None or not points:
        return []
    sides = {"x": _side(scene.x, budget, points), "y": _side(scene.y, budget, points)}
    if not any(sides.values()):
        return []
    metrics = {scene.x.metric.name, scene.y.metric.name}
    shown = Budget(limits=tuple(limit for limit in budget.limits if limit.metric in metrics))
    name = f"within {shown}".replace("<=", "≤").replace(">=", "≥")
    if len({_bounds(budget, scene, {**points[0].dense, **each.dense}) for each in points}) > 1:
        name += f", for {points[0].name}"  # shares of other dense models come to other amounts
    colour = PALETTES[scene.theme].feasible
    shape: dict[str, Any] = {
        "type": "rect",
        "layer": "below",
        "fillcolor": translucent(colour, 0.1),
        "line": {"color": colour, "width": 1.5, "dash": "dash"},
        "name": plain(name),
        "showlegend": True,
        "legendrank": 395,
    }
    for name, side in sides.items():
        start, end = side or (0.0, 1.0)
        shape |= {f"{name}0": start, f"{name}1": end}
        shape[f"{name}ref"] = name if side else f"{name} domain"
    return [shape]


def _bounds(budget: Budget, scene: Scene, dense: Mapping[str, float]) -> tuple[float, ...]:
    """Return where a budget ends along the axes shown, by the costs of a dense model."""
    return tuple(
        _place(limit, axis, dense)
        for axis in (scene.x, scene.y)
        for limit in budget.limits
        if METRICS[limit.metric] is axis.metric
    )


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


def _colour_axis(scene: Scene) -> dict[str, Any]:
    if scene.colour is None:
        return {}
    return {
        "colorscale": list(PALETTES[scene.theme].scale),
        "colorbar": {
            "title": {"text": plain(scene.colour.label), "font": {"size": 13}, "side": "right"},
            "ticksuffix": scene.colour.suffix,
        },
    }
