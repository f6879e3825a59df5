"""Compensation for pruned units: one file a method, or an entry in the table of ridge fits."""

from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:  # settings read the names without torch
    from search_spaces.pruned_weights.compensation.protocol import Compensation

RidgeName = Literal["least_squares", "obs", "tuning"]
"""Those that fit the kept weights by damped least squares."""
CompensationName = Literal["bias", RidgeName]


def make_compensation(name: CompensationName) -> "Compensation":
    """Return the compensation of a name."""
    match name:
        case "bias":
            from search_spaces.pruned_weights.compensation.bias import Bias

            return Bias()
        case "least_squares" | "obs" | "tuning":
            from search_spaces.pruned_weights.compensation.ridge import RIDGE

            return RIDGE[name]
        case _:
            assert_never(name)
