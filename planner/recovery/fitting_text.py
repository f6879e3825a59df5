"""The calibration text of a run, divided for a recovery: to fit to, and to hold the fit to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from planner.preparation.prepared_model import PreparedModel
from search_spaces.errors import DataError

Changes = Iterator[tuple[int, Mapping[str, Tensor]]]
"""Number of a layer, and its tensors that a fit changed, by their paths in it."""


@dataclass(frozen=True, kw_only=True)
class FittingText:
    """The calibration text of a run, in what weights are fitted to and what they are held to."""

    fitted: Tensor
    """Token ids ``(windows, tokens)``"""
    apart: Tensor
    """Likewise."""

    @classmethod
    def of(cls, prepared: PreparedModel, tokens: int | None = None) -> "FittingText":
        """Divide the calibration text of a run.

        Args:
            prepared: The run's model.
            tokens: To fit to at most; None: all there are.

        Raises:
            DataError: If there is a single window.
        """
        fitted, apart = prepared.calibration.fitted, prepared.calibration.apart
        if not len(apart):
            raise DataError(
                "a recovery needs at least 2 windows of calibration text, one to compare on, got "
                f"{len(fitted)}; search again with more `--calibration_windows`"
            )
        most = len(fitted) if tokens is None else max(1, tokens // fitted.shape[1])
        return cls(fitted=fitted[:most], apart=apart)
