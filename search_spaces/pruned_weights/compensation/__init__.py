"""One file for each way to make up for units that go."""

from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:  # settings read the names without torch
    from search_spaces.pruned_weights.compensation.protocol import Compensation

CompensationName = Literal["bias", "least_squares", "obs", "tuning"]


def make_compensation(name: CompensationName) -> "Compensation":
    """Give the compensation of a name."""
    match name:
        case "bias":
            from search_spaces.pruned_weights.compensation.bias import Bias

            return Bias()
        case "least_squares":
            from search_spaces.pruned_weights.compensation.least_squares import LeastSquares

            return LeastSquares()
        case "obs":
            from search_spaces.pruned_weights.compensation.optimal_brain_surgeon import (
                OptimalBrainSurgeon,
            )

            return OptimalBrainSurgeon()
        case "tuning":
            from search_spaces.pruned_weights.compensation.sublayer_tuning import SubLayerTuning

            return SubLayerTuning()
        case _:
            assert_never(name)
