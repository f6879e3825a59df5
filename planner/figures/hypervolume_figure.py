"""How the fronts of runs grew while they were searched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import moocore
import numpy as np
from numpy.typing import NDArray

from planner.figures.figure_style import DASHES, MARKS, PALETTES, Theme, plain, styled
from planner.figures.front_points import FrontPoints
from planner.results.indicators import Points, hypervolume, reference_kl

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_MOMENTS = 200
"""At which a hypervolume is computed."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Growth:
    """A front's hypervolume over time."""

    minutes: Floats
    """Since the first plan landed, ``(moments,)``."""
    volumes: Floats
    """``(moments,)``, as shares of the box from KL 0 at no cost to the reference."""
    counts: NDArray[np.intp]
    """Plans that had landed, ``(moments,)``."""


def hypervolume_figure(points: Sequence[FrontPoints], theme: Theme = "light") -> "go.Figure":
    """Return the hypervolume of each run's front over time, to one reference.

    Resumed runs keep the hours between their sessions.
    """
    fronts = [_scored(each, each.rows_of_kind("front")) for each in points]
    reference = reference_kl(*fronts)
    series = PALETTES[theme].series
    traces: list[dict[str, Any]] = []
    for place, each in enumerate(points):
        growth = hypervolume_growth(each, reference)
        traces.append(
            {
                "type": "scatter",
                "name": plain(each.name),
                "x": growth.minutes,
                "y": growth.volumes,
                "text": [f"{count:,} plans" for count in growth.counts],
                "mode": "lines+markers",
                "line": {
                    "shape": "hv",
                    "color": series[place % len(series)],
                    "dash": DASHES[place % len(DASHES)],
                },
                "marker": {"symbol": MARKS[place % len(MARKS)], "size": 4},
                "hovertemplate": "%{x:.1f} min, %{text}<br>%{y:.4f}<extra></extra>",
            }
        )
    figure = styled(traces, theme)
    told = f"share of the box from KL 0 at no cost to KL {reference:.3g} at the dense model's"
    figure.update_layout(
        uirevision="hypervolume",
        title={"text": told, "font": {"size": 12}, "x": 0, "xref": "paper"},
        xaxis={"title": {"text": "minutes since the first plan"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "hypervolume"}, "rangemode": "tozero"},
        legend={"orientation": "h", "y": -0.18, "yanchor": "top"},
        showlegend=len(points) > 1,
    )
    return figure


def hypervolume_growth(points: FrontPoints, reference: float) -> Growth:
    """Return the hypervolume of the front that the plans landed so far made, at some moments.

    A plan counts from when it first landed, with the score that it has now.

    Args:
        points: Of a run.
        reference: The KL at the reference point.
    """
    rows = points.rows_of_kind("front", "dominated")
    landed = points.frame["created_at"].to_numpy(dtype="datetime64[ms]")[rows]
    rows, landed = rows[np.argsort(landed, kind="stable")], np.sort(landed)
    if not len(rows):
        nothing = np.zeros(0)
        return Growth(minutes=nothing, volumes=nothing, counts=np.zeros(0, dtype=np.intp))
    ends = np.unique(np.linspace(1, len(rows), MOST_MOMENTS).round().astype(np.intp))
    front, volumes, begin = rows[:0], [], 0
    for end in ends:
        front = _front_of(points, np.concatenate([front, rows[begin:end]]))
        volumes.append(hypervolume(_scored(points, front), reference))
        begin = int(end)
    minutes = (landed[ends - 1] - landed[0]) / np.timedelta64(60_000, "ms")
    return Growth(minutes=minutes, volumes=np.array(volumes), counts=ends)


def _front_of(points: FrontPoints, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    kept: NDArray[np.bool_] = moocore.is_nondominated(_scored(points, rows).objectives)
    return rows[kept]


def _scored(points: FrontPoints, rows: NDArray[np.intp]) -> Points:
    """Return plans by their KL on the search text."""
    shares = [points.values(f"{name}_x")[rows] for name in points.cost_names]
    return Points(
        kls=points.values("kl")[rows],
        errors=points.values("kl_se")[rows],
        shares=np.column_stack(shares),
    )
