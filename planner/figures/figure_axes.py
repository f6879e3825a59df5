"""What a figure can show along an axis, or as colour: costs, and quality on each text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import METRICS, Metric, metric_names
from planner.results.indicators import SIGNIFICANT_ERRORS
from search_spaces.errors import SettingsError, quoted
from search_spaces.suggestions import suggestion

if TYPE_CHECKING:
    from planner.figures.front_points import FrontPoints

Split = Literal["search", "fresh", "holdout"]
"""The text that a quality was measured on."""
SPLITS: Mapping[Split, str] = {
    "search": "search text",
    "fresh": "fresh text",
    "holdout": "held-out text",
}
"""Each with its name in legends."""
_SHARE = "_x"
_EXPONENTIALS = {m.exponential: m for m in METRICS.values() if m.exponential}
_IDEALS = {"kl": 0.0, "agreement": 1.0, "acceptance": 1.0, "cosine": 1.0}
"""What the dense model has by the metric's definition."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A column of a table of plans, as figures show it."""

    name: str
    """The column; of quality, that of the search text."""
    metric: Metric
    scale: float = 1.0
    """What a tick of 1 stands for, in the metric's own unit."""
    suffix: str = ""
    """What follows the number of a tick."""

    @classmethod
    def of(cls, name: str, dense: Mapping[str, float]) -> Self:
        """Return the axis of a column.

        Args:
            name: A cost, or with ``_x`` its share of the dense model's; or a quality metric.
            dense: The dense model's costs, which set the unit of amounts.

        Raises:
            SettingsError: If there is no such column.
        """
        metric = _EXPONENTIALS.get(name) or METRICS.get(name.removesuffix(_SHARE))
        if metric is None or (name.endswith(_SHARE) and not metric.is_cost):
            known = [*METRICS, *(f"{n}{_SHARE}" for n in METRICS if METRICS[n].is_cost)]
            remedy = suggestion(name, known, "write for example params_x or kl")
            raise SettingsError(
                f"an axis must be a cost or a quality, got {quoted(name)}; {remedy}"
            )
        if name.endswith(_SHARE):
            return cls(name=name, metric=metric, suffix="×")
        if not metric.is_cost or not metric.suffixes:
            return cls(name=name, metric=metric)
        steps = len(metric.suffixes)
        power = sum(dense.get(name, 0.0) >= 1000.0**step for step in range(1, steps))
        return cls(
            name=name, metric=metric, scale=1000.0**power, suffix=metric.suffixes[power].rstrip()
        )

    @property
    def is_share(self) -> bool:
        """Whether it is a share of the dense model's cost."""
        return self.name.endswith(_SHARE)

    @property
    def label(self) -> str:
        """What it is called beside the axis."""
        if self.is_share:
            return f"{self.metric.label}, as a share of the dense model's"
        if self.name == self.metric.exponential:
            return self.name
        if self.metric.is_cost or self.metric.unit.startswith("share"):
            return self.metric.label
        unit = "" if self.metric.unit == self.metric.name else f", {self.metric.unit}"
        return f"{self.metric.label}{unit}"

    @property
    def brief_label(self) -> str:
        """What it is called in menus, which are narrow."""
        if self.name == self.metric.exponential:
            return self.name
        return f"{self.metric.label}, × of dense" if self.is_share else self.metric.label

    @property
    def ticks(self) -> dict[str, Any]:
        """How Plotly writes its numbers."""
        if self.metric.unit.startswith("share"):
            return {"tickformat": ",.0%", "hoverformat": ",.1%"}
        return {"ticksuffix": self.suffix, "hoverformat": ",.4~g", "exponentformat": "none"}

    def column(self, split: Split) -> str:
        """Return its column of a table of plans, on one of the texts if it is a quality."""
        return self.name if self.metric.is_cost else f"{_prefix(split)}{self.name}"

    def values(self, points: "FrontPoints", split: Split) -> Floats:
        """Return the places of the plans along the axis, ``(plans,)``."""
        return points.values(self.column(split)) / self.scale

    def bounds(self, points: "FrontPoints", split: Split) -> tuple[Floats, Floats]:
        """Return the places two standard errors below and above, ``(plans,)`` each."""
        if self.metric.is_cost:
            values = self.values(points, split)
            return values, values
        column = f"{_prefix(split)}{self.metric.name}"
        values = points.values(column)
        reach = SIGNIFICANT_ERRORS * points.values(f"{column}_se")
        low, high = values - reach, values + reach
        if self.name != self.metric.name:
            return np.exp(np.minimum(low, 700.0)), np.exp(np.minimum(high, 700.0))
        return low, high

    def dense_value(self, points: "FrontPoints") -> float:
        """Return the place of the dense model; not a number if nobody measured it."""
        if self.is_share:
            return 1.0
        if self.metric.is_cost:
            return points.dense.get(self.name, np.nan) / self.scale
        if self.name in _IDEALS:
            return _IDEALS[self.name]
        is_whole = points.values("kl") == 0
        return float(next(iter(points.values(self.name)[is_whole]), np.nan))


def _prefix(split: Split) -> str:
    return "" if split == "search" else f"{split}_"


def axis_names(points: Sequence["FrontPoints"]) -> list[str]:
    """Return the axes that some runs have something on: shares, amounts, then quality."""
    costs = [name for name in METRICS if any(name in each.shown_costs for each in points)]
    columns = {column for each in points for column in each.frame.columns}
    qualities = [
        METRICS[name].exponential or name
        for name in metric_names("quality")
        if columns & {name, f"fresh_{name}", f"holdout_{name}"}
    ]
    return [*(f"{name}{_SHARE}" for name in costs), *costs, *qualities]
