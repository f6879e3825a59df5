"""An outline that a visitor drew in a picture of plans, and the plans inside."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from planner.figures.figure_axes import Axis, Split
from planner.figures.front_points import FrontPoints

Floats = NDArray[np.float64]
Inside = Mapping[str, NDArray[np.bool_]]
"""Of each run, by name: which of its plans lie inside an outline; runs of one model share ids."""


class Brush(BaseModel):
    """A box or a lasso; a picture may leave plans out that others cover, and an outline does not.

    ``assets/browse.js`` writes it.
    """

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    source: Literal["front", "other"]
    """Id of the picture that it was drawn in."""
    x: str
    """Axes of that picture."""
    y: str
    splits: tuple[Split, ...]
    """Texts that it shows plans on."""
    xs: tuple[float, ...]
    """Corners of the outline, in their order."""
    ys: tuple[float, ...]

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> "Self | None":
        """Return a brush as the page stores it."""
        return cls.model_validate(stored) if stored else None

    @model_validator(mode="after")
    def _check_corners(self) -> Self:
        if len(self.xs) != len(self.ys):
            raise ValueError("each corner must have two places")
        return self

    def inside(self, points: Sequence[FrontPoints]) -> Inside:
        """Return which plans of some runs lie inside.

        Raises:
            SettingsError: If an axis is none.
        """
        if not points:
            return {}
        dense = points[0].dense
        axes = Axis.of(self.x, dense), Axis.of(self.y, dense)
        found: dict[str, NDArray[np.bool_]] = {}
        for each in points:
            is_inside = found[each.name] = np.zeros(len(each.frame), dtype=bool)
            for split in {*self.splits, "search"}:  # on which other plans are shown
                x, y = (axis.values(each, split) for axis in axes)
                is_inside |= self._contains(x, y)
        return found

    def _contains(self, x: Floats, y: Floats) -> NDArray[np.bool_]:
        """Return which places lie inside: a ray from there crosses an odd number of sides."""
        is_inside = np.zeros(len(x), dtype=bool)
        corners = np.column_stack([self.xs, self.ys])
        with np.errstate(invalid="ignore", divide="ignore"):  # a level side, which no ray crosses
            for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
                is_level = (y0 > y) != (y1 > y)
                is_inside ^= is_level & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        return is_inside
