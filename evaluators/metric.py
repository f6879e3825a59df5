"""What can be measured of a plan: a name, a unit and a direction; and one measured value."""

from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["minimise", "maximise"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Something that can be measured of a plan."""

    name: str
    """As it stands in budgets, tables and files."""
    unit: str
    direction: Direction
    source: str
    """Where the definition comes from."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One value of a metric with its standard error, 0 where the value is exact."""

    value: float
    standard_error: float = 0.0
    by_window: tuple[float, ...] = field(default=(), compare=False, repr=False)
    """What the value is the mean of, window by window; empty where that is not known."""


def minimised(metric: Metric, value: float) -> float:
    """Turn a value so that smaller is better: the one place where signs change."""
    return value if metric.direction == "minimise" else -value
