"""The score of a candidate: a running estimate over windows of text, common to all candidates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import Measurement

ByWindow = Mapping[str, NDArray[np.float64]]
"""Mean of each metric over the positions of each window so far, ``(windows,)``, by name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """One candidate's quality on the windows so far; more can follow."""

    by_window: ByWindow
    tokens: int
    """Tokens the candidate was run on."""
    seconds: float
    """Its share of the time."""
    failure: str | None = None
    """Why it has no quality; none if it has."""

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Score)
            and (self.tokens, self.seconds, self.failure)
            == (other.tokens, other.seconds, other.failure)
            and self.by_window.keys() == other.by_window.keys()
            and all(
                np.array_equal(values, other.by_window[name], equal_nan=True)
                for name, values in self.by_window.items()
            )
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have none

    @classmethod
    def of(cls, by_window: ByWindow, tokens: int, seconds: float) -> Self:
        """Return the score of what was measured; it failed if that is not finite."""
        return cls(
            by_window=by_window,
            tokens=tokens,
            seconds=seconds,
            failure=None if is_finite(by_window) else "its logits hold NaN or infinity",
        )

    @classmethod
    def failed(cls, metrics: Sequence[str], windows: int, tokens: int, reason: str) -> Self:
        """Return the score of a candidate of which nothing could be measured."""
        unknown = np.full(windows, np.nan)
        return cls(
            by_window=dict.fromkeys(metrics, unknown), tokens=tokens, seconds=0.0, failure=reason
        )

    @property
    def windows(self) -> int:
        """Windows scored so far."""
        return len(next(iter(self.by_window.values()), ()))

    def mean(self, metric: str) -> float:
        """Return the mean of one metric over windows: of `quality` the value alone, sooner."""
        values = self.by_window[metric]
        return float(values.sum() / len(values))

    @cached_property
    def quality(self) -> Mapping[str, Measurement]:
        """Each metric's mean, with the standard error of a mean over windows."""
        return {name: estimate(values) for name, values in self.by_window.items()}

    def upto(self, windows: int) -> "Score":
        """Return the score as it stood after the first windows."""
        share = windows / self.windows if self.windows else 1.0
        by_window = {name: values[:windows] for name, values in self.by_window.items()}
        return Score(
            by_window=by_window,
            tokens=round(self.tokens * share),
            seconds=self.seconds * share,
            failure=None if is_finite(by_window) else self.failure,
        )

    def since(self, windows: int) -> "Score":
        """Return the score on the windows after the first ones."""
        before = self.upto(windows)
        by_window = {name: values[windows:] for name, values in self.by_window.items()}
        return Score(
            by_window=by_window,
            tokens=self.tokens - before.tokens,
            seconds=self.seconds - before.seconds,
            failure=None if is_finite(by_window) else self.failure,
        )

    def then(self, more: "Score") -> "Score":
        """Return the score over the windows of both, in this order."""
        return Score(
            by_window={
                name: np.concatenate([values, more.by_window[name]])
                for name, values in self.by_window.items()
            },
            tokens=self.tokens + more.tokens,
            seconds=self.seconds + more.seconds,
            failure=self.failure or more.failure,
        )


def is_finite(by_window: ByWindow) -> bool:
    """Return whether every metric is finite on every window."""
    return all(bool(np.isfinite(values).all()) for values in by_window.values())


def estimate(values: NDArray[np.float64]) -> Measurement:
    """Estimate a mean from windows drawn at random ``(windows,)``.

    The standard error is that of a simple random sample (Cochran, 1977, equation 2.20, no
    finite-population correction); not a number for a single window.
    """
    count = len(values)
    with np.errstate(invalid="ignore"):  # a ruined candidate's values may be infinite
        spread = float(values.std(ddof=1)) if count > 1 else math.nan
        return Measurement(
            value=float(values.mean()),
            standard_error=spread / math.sqrt(count),
            by_window=tuple(values.tolist()),
        )


def difference(ours: Measurement, theirs: Measurement) -> Measurement:
    """Subtract one measurement from another.

    If both are of the same windows, the standard error is that of the paired differences: some
    windows are harder than others for all candidates alike, and that cancels. Else the errors add
    up as those of independent samples, a cautious bound.
    """
    paired = len(ours.by_window) > 1 and len(ours.by_window) == len(theirs.by_window)
    if paired:
        return estimate(np.array(ours.by_window) - np.array(theirs.by_window))
    error = math.hypot(ours.standard_error, theirs.standard_error)
    return Measurement(value=ours.value - theirs.value, standard_error=error)
