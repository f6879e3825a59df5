"""One file for each way to make up for units that go."""

from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:  # settings read the names without torch
    from search_spaces.compensation.protocol import Compensation

CompensationName = Literal["bias", "least_squares", "obs", "tuning"]


def make_compensation(name: CompensationName) -> "Compensation":
    """Give the compensation of a name."""
    match name:
        case "bias":
            from search_spaces.compensation.bias import Bias

            return Bias()
        case "least_squares":
            from search_spaces.compensation.least_squares import LeastSquares

            return LeastSquares()
        case "obs":
            from search_spaces.compensation.obs import OptimalBrainSurgeon

            return OptimalBrainSurgeon()
        case "tuning":
            from search_spaces.compensation.tuning import SubLayerTuning

            return SubLayerTuning()
        case _:
            assert_never(name)
