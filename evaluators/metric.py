"""A metric of plans, with its unit and direction; and one measured value."""

import math
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["minimise", "maximise"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Something that can be measured of a plan."""

    name: str
    """As used in budgets, tables and files."""
    unit: str
    direction: Direction
    source: str
    """Where the definition comes from."""
    lowest: float = -math.inf
    """Its least value; what rounding leaves below is this."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One value of a metric with its standard error, 0 if the value is exact."""

    value: float
    standard_error: float = 0.0
    by_window: tuple[float, ...] = field(default=(), compare=False, repr=False)
    """The values it is the mean of, window by window; empty if these are not kept."""
