"""The calibration text of a run, divided for a recovery: to fit to, and to hold the fit to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from planner.preparation.prepared_model import PreparedModel
from search_spaces.errors import DataError

Changes = Iterator[tuple[int, Mapping[str, Tensor]]]
"""Number of a layer, and its tensors that a fit changed, by their paths in it."""
_APART = 8
"""One in so many windows of the calibration text is kept apart, to compare on."""
_MOST_APART = 16


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
        windows = prepared.calibration.statistics
        if len(windows) < 2:
            raise DataError(
                "a recovery needs at least 2 windows of calibration text, one to compare on, got "
                f"{len(windows)}; search again with more `--calibration_windows`"
            )
        count = min(_MOST_APART, max(1, len(windows) // _APART))
        fitted = windows[:-count]
        most = len(fitted) if tokens is None else max(1, tokens // windows.shape[1])
        return cls(fitted=fitted[:most], apart=windows[-count:])
