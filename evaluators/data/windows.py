"""Windows of tokens: how many each draw of text has, and those that were drawn."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DRAWS = ("statistics", "search", "fresh", "holdout")
"""The draws of text, which share no window."""

_APART = 8
"""One in so many windows of the calibration text is kept apart."""
_MOST_APART = 16


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How much text each draw has, in windows of equal length."""

    statistics: int
    search: int = 0
    fresh: int = 0
    holdout: int = 0
    tokens: int
    """In each window."""
    fewest_statistics: int | None = None
    """So many windows of `statistics` will do if text or time do not allow all; None: all."""

    @property
    def needed_statistics(self) -> int:
        """Windows of `statistics` without which nothing is drawn."""
        return self.statistics if self.fewest_statistics is None else self.fewest_statistics

    @property
    def spare(self) -> int:
        """Windows of `statistics` that text and time may cut off."""
        return self.statistics - self.needed_statistics


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The draws of text, token ids that share no window."""

    statistics: Tensor
    """``(windows, tokens)``: the draw for all that is fitted to text, as `fitted` and `apart`."""
    search: Tensor
    """``(windows, tokens)``; plans are compared on them."""
    fresh: Tensor
    """``(windows, tokens)`` of the same text as the search's: a second draw."""
    holdout: Tensor
    """``(windows, tokens)``; no decision is ever based on them."""
    source: str
    """Where the text came from."""
    source_digests: tuple[str, ...] = ()
    """What identifies the files of the text and of held-out text; empty: there are none."""

    @property
    def fitted(self) -> Tensor:
        """Calibration text ``(windows, tokens)`` that statistics and weights are fitted to."""
        return self.statistics[: len(self.statistics) - self._apart_count]

    @property
    def apart(self) -> Tensor:
        """Calibration text ``(windows, tokens)`` that nothing is fitted to; empty: too little.

        What a fit came to is compared on it: weights that saw it before would be flattered.
        """
        return self.statistics[len(self.statistics) - self._apart_count :]

    @property
    def _apart_count(self) -> int:
        count = len(self.statistics)
        return min(_MOST_APART, max(1, count // _APART)) if count > 1 else 0

    def save(self, path: Path) -> None:
        """Write the tokens as ``.npz``."""
        with path.open("wb") as file:
            np.savez(
                file,
                **{name: getattr(self, name).numpy() for name in DRAWS},
                source=np.array(self.source),
                source_digests=np.array(self.source_digests, dtype=np.str_),
            )

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read what `save` wrote."""
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return cls(
                **{name: torch.from_numpy(arrays[name]) for name in DRAWS},
                source=str(arrays["source"]),
                source_digests=tuple(map(str, np.atleast_1d(arrays["source_digests"]))),
            )
