"""What one run puts on the plot of a front: its plans, its front on each text, its baselines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray

from planner.figures.figure_axes import SPLITS, Axis, Split
from planner.figures.figure_style import (
    DASHES,
    MARKS,
    PALETTES,
    Palette,
    Theme,
    plain,
    translucent,
)
from planner.figures.front_points import FrontPoints, PlanKind

_MOST_MARKS = 1000
"""Of plans that are not on the front; of more, those that others cover are left out."""
_SPOTS = (110, 55)
"""How many marks lie side by side over the width of a front, and over its height."""
_MOST_BARS = 60
"""Error bars; where there are more plans, the band alone shows errors."""
_RANKS = {"front": 100, "recovered": 200, "baseline": 300, "cloud": 500}
"""Places in legends."""
_RECOVERED: dict[Split, str] = {
    "search": "diamond",
    "fresh": "diamond-open",
    "holdout": "diamond-open-dot",
}
"""Marks of recovered weights."""
_BASELINE_MARKS = ("x-thin", "cross-thin", "asterisk")
_CLOUDS: dict[PlanKind, tuple[str, str]] = {
    "dominated": ("other plans", "circle"),
    "partial": ("scored in part", "circle-open"),
}
Trace = dict[str, Any]
Rows = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What all runs on a plot share."""

    x: Axis
    y: Axis
    colour: Axis | None
    splits: tuple[Split, ...]
    theme: Theme
    is_single: bool
    """Whether one run has the plot for itself: its texts then differ by colour too."""


@dataclass(frozen=True, kw_only=True)
class RunTraces:
    """The traces of one run."""

    points: FrontPoints
    scene: Scene
    position: int
    """Among the runs on the plot, which sets its colour and mark."""

    def clouds(self) -> Iterator[Trace]:
        """Yield plans that are not on the front."""
        for kind, (label, symbol) in _CLOUDS.items():
            plans = self.points.rows_of_kind(kind)
            rows = self._uncovered(plans)
            if len(rows):
                part = f" ({len(rows):,} of {len(plans):,} drawn)"
                name = label + (part if len(rows) < len(plans) else "")
                marker = {"symbol": symbol, "size": 5, "opacity": 0.45}
                yield self._places(rows, "search") | {
                    "meta": {"plans": len(plans)},
                    "type": "scatter",
                    "mode": "markers",
                    "name": self._name(name),
                    "legendrank": _RANKS["cloud"] + self.position,
                    "marker": marker | self._colours(rows, "search", self._palette.faint),
                    "hovertemplate": "%{customdata[1]}<br>%{x}<br>%{y}<extra></extra>",
                }

    def fronts(self) -> Iterator[Trace]:
        """Yield the front on each text in a band of two standard errors.

        Plans that others dominate in the axes shown are points beside the line, on the first text.
        """
        front = self.points.rows_of_kind("front")
        for split in self.scene.splits:
            known = np.isfinite(self.scene.x.values(self.points, split)[front])
            known &= np.isfinite(self.scene.y.values(self.points, split)[front])
            rows = front[known]
            if len(rows):
                joined = self._joined(rows, split)
                is_first = split == self.scene.splits[0]
                others = np.setdiff1d(rows, joined) if is_first else rows[:0]
                yield self._band(joined, split)
                yield self._front(joined, others, split)

    def baselines(self) -> Iterator[Trace]:
        """Yield each baseline on all texts shown."""
        for place, (name, plan_id) in enumerate(self.points.baselines.items()):
            rows = self.points.rows_of_plans([plan_id])
            if not len(rows):
                continue
            for number, split in enumerate(self.scene.splits):
                colour = self.colour_on(split)
                yield self._places(rows, split) | {
                    "type": "scatter",
                    "mode": "markers",
                    "name": self._name(f"{name} baseline"),
                    "legendrank": _RANKS["baseline"] + self.position,
                    "legendgroup": f"{self.position} {name}",
                    "showlegend": not number,
                    "marker": {
                        "symbol": _BASELINE_MARKS[place % len(_BASELINE_MARKS)],
                        "size": 11,
                        "line": {"width": 2.5, "color": colour},
                        "color": colour,
                    },
                    **self._notes(rows),
                }

    def recovered(self) -> Iterator[Trace]:
        """Yield plans with recovered weights, right below those plans, on all texts shown."""
        rows = self.points.rows_of_kind("recovered")
        for split in self.scene.splits if len(rows) else ():
            yield self._places(rows, split) | {
                "type": "scatter",
                "mode": "markers",
                "name": self._name(f"recovered weights, {SPLITS[split]}"),
                "legendrank": _RANKS["recovered"] + self.position,
                "marker": {"symbol": _RECOVERED[split], "size": 9, "color": self.colour_on(split)},
                **self._notes(rows),
            }

    def places_of(self, plan_ids: Sequence[str]) -> Iterator[tuple[float, float]]:
        """Yield where plans are, on the first text that is shown."""
        places = self._places(
            self.points.rows_of_plans(plan_ids), (*self.scene.splits, "search")[0]
        )
        for x, y in zip(places["x"], places["y"], strict=True):
            if np.isfinite([x, y]).all():
                yield float(x), float(y)

    def colour_on(self, split: Split) -> str:
        """Return the colour of the run, or of the text if the run is the only one."""
        place = list(SPLITS).index(split) if self.scene.is_single else self.position
        return self._palette.series[place % len(self._palette.series)]

    @property
    def _palette(self) -> Palette:
        return PALETTES[self.scene.theme]

    def _name(self, label: str) -> str:
        return label if self.scene.is_single else plain(f"{self.points.name}: {label}")

    def _uncovered(self, rows: Rows) -> Rows:
        """Return the plans to draw of many: one of each spot that a mark covers."""
        if len(rows) <= _MOST_MARKS:
            return rows
        front, spots = self.points.rows_of_kind("front"), np.zeros(len(rows))
        is_known = np.ones(len(rows), dtype=bool)
        for axis, count in zip((self.scene.x, self.scene.y), _SPOTS, strict=True):
            values = axis.values(self.points, "search")
            reach = values[front][np.isfinite(values[front])]
            if not len(reach):  # nothing on this axis to look at
                return rows[:_MOST_MARKS]
            places = (values[rows] - reach.min()) / (np.ptp(reach) or 1.0) * count
            is_known &= np.isfinite(places)
            spots = spots * 8 * count + _spots(places, count)
        _, first = np.unique(spots[is_known], return_index=True)
        return np.sort(rows[is_known][first])

    def _places(self, rows: Rows, split: Split) -> Trace:
        return {
            "x": self.scene.x.values(self.points, split)[rows],
            "y": self.scene.y.values(self.points, split)[rows],
            "customdata": self.points.customdata[rows],
        }

    def _notes(self, rows: Rows) -> Trace:
        notes = self.points.notes
        texts = [notes.get(int(row), "") for row in rows]
        return {"hovertext": texts, "hovertemplate": "%{hovertext}<extra></extra>"}

    def _colours(self, rows: Rows, split: Split, otherwise: str) -> Trace:
        if self.scene.colour is None:
            return {"color": otherwise}
        values = self.scene.colour.values(self.points, split)[rows]
        return {"color": values, "coloraxis": "coloraxis"}

    def _joined(self, rows: Rows, split: Split) -> Rows:
        """Return the rows that none dominates in the two axes shown, from left to right."""
        axes = (self.scene.x, self.scene.y)
        reference: Split = "search" if np.isfinite(self._y_on("search")[rows]).all() else split
        places = np.column_stack([axis.values(self.points, reference)[rows] for axis in axes])
        maximised = [axis.metric.is_maximised for axis in axes]
        is_best: NDArray[np.bool_] = moocore.is_nondominated(places, maximise=maximised)
        kept = rows[is_best]
        return kept[np.argsort(self.scene.x.values(self.points, split)[kept], kind="stable")]

    def _y_on(self, split: Split) -> NDArray[np.float64]:
        return self.scene.y.values(self.points, split)

    def _band(self, joined: Rows, split: Split) -> Trace:
        low, high = self.scene.y.bounds(self.points, split)
        x = self.scene.x.values(self.points, split)[joined]
        return {
            "type": "scatter",
            "x": np.concatenate([x, x[::-1]]),
            "y": np.concatenate([high[joined], low[joined][::-1]]),
            "mode": "lines",
            "fill": "toself",
            "fillcolor": translucent(self.colour_on(split), 0.14),
            "line": {"width": 0},
            "hoverinfo": "skip",
            "legendgroup": f"{self.position} {split}",
            "showlegend": False,
        }

    def _front(self, joined: Rows, others: Rows, split: Split) -> Trace:
        """Return the line through the plans joined, and the others as points alone."""
        # a gap before each, so that no line leads there
        rows = np.concatenate([joined, np.repeat(others, 2)])
        gaps = np.zeros(len(rows), dtype=bool)
        gaps[len(joined) :: 2] = True
        colour, number = self.colour_on(split), list(SPLITS).index(split)
        symbol = MARKS[self.position % len(MARKS)] + ("-open" if number else "")
        trace = self._places(rows, split) | {
            "type": "scatter",
            "mode": "lines+markers",
            "name": self._name(f"front, {SPLITS[split]} ± 2 s.e."),
            "legendrank": _RANKS["front"] + 10 * self.position + number,
            "legendgroup": f"{self.position} {split}",
            "line": {"color": colour, "dash": DASHES[number], "width": 1.5},
            "marker": {"symbol": symbol, "size": 7} | self._colours(rows, split, colour),
            **self._notes(rows),
        }
        if split == self.scene.splits[0] and len(rows) <= _MOST_BARS:
            trace |= self._error_bars(rows, split, colour)
        trace["x"] = np.where(gaps, np.nan, trace["x"])
        return trace

    def _error_bars(self, rows: Rows, split: Split, colour: str) -> Trace:
        """Return bars of two standard errors for each axis that has any."""
        bars = {}
        for side, axis in (("x", self.scene.x), ("y", self.scene.y)):
            low, high = axis.bounds(self.points, split)
            values = axis.values(self.points, split)[rows]
            if not axis.metric.is_cost:
                bars[f"error_{side}"] = {
                    "array": high[rows] - values,
                    "arrayminus": values - low[rows],
                    "color": translucent(colour, 0.6),
                    "thickness": 1,
                    "width": 3,
                }
        return bars


def _spots(places: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the spots of places along an axis: ever wider ones below 0 and beyond a count."""
    inside = np.clip(places, 0, count)
    outside = places - inside  # seen by who zooms out
    steps = np.ceil(2 * np.log2(1 + np.abs(outside)))
    spots: NDArray[np.float64] = np.floor(inside) + np.sign(outside) * steps
    return spots
