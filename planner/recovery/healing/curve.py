"""How a healing went: what it learned, step by step, and what came of it."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from evaluators.metric import Measurement
from evaluators.scoring.score import difference, estimate

StopReason = Literal["minutes", "tokens", "no longer better", "diverged"]


class Look(BaseModel):
    """One look at a model in training."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    step: int
    tokens: int
    """Trained on until now."""
    seconds: float
    """Of training and looking until now."""
    loss: float | None = None
    """Mean divergence on the text trained on since the last look; `None`: nothing was."""
    fresh_kl: float
    """On windows of fresh text."""
    standard_error: float


class LearningCurve(BaseModel):
    """All looks at a model in training, the first before any step."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    looks: tuple[Look, ...] = ()
    best: int = 0
    """Which of them has the lowest KL: the weights of then are kept."""
    by_window: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    """KL in each fresh window, at first and at best."""
    stopped: StopReason | None = None
    """Why it ended; `None`: it goes on, or was killed."""

    def add(self, point: Look, kl: NDArray[np.float64]) -> "LearningCurve":
        """Return the curve with one more look, given KL in each fresh window."""
        windows = tuple(map(float, kl))
        position = len(self.looks)
        is_best = position == 0 or point.fresh_kl < self.looks[self.best].fresh_kl
        first = windows if position == 0 else self.by_window[0]
        return self.model_copy(
            update={
                "looks": (*self.looks, point),
                "best": position if is_best else self.best,
                "by_window": (first, windows if is_best else self.by_window[1]),
            }
        )

    @property
    def since_best(self) -> int:
        """Looks since the best one."""
        return len(self.looks) - 1 - self.best

    @property
    def helped(self) -> bool:
        """Whether some weights were better on fresh text than those it began with."""
        return self.best > 0

    @property
    def gain(self) -> Measurement:
        """By how much KL on fresh windows fell, with the error of paired windows."""
        first, best = (estimate(np.array(windows)) for windows in self.by_window)
        return difference(first, best)

    def __str__(self) -> str:
        first, best = self.looks[0], self.looks[self.best]
        found = f"KL on fresh text {first.fresh_kl:.4g} → {best.fresh_kl:.4g}"
        if not self.helped:
            return f"it did not help ({self._end}): no weights were better on fresh text"
        error = self.gain.standard_error
        return f"{found} (± {error:.2g}) after {best.tokens:,} tokens ({self._end})"

    @property
    def _end(self) -> str:
        match self.stopped:
            case "minutes" | "tokens":
                return f"ended by the limit on {self.stopped}"
            case "diverged":
                return "it diverged, lower `--lr`"
            case "no longer better":
                return "ended early, as it no longer got better"
            case None:
                return "unfinished"
