"""How fast healing learns: a short warm-up, then down along a cosine."""

import math
from dataclasses import dataclass

WARM_UP_STEPS, WARM_UP_SHARE = 10, 0.5
"""The warm-up ends after so many steps, or so much of the training if that is less."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long to train; at least one of them is given, and the first that is met ends it."""

    minutes: float | None = None
    """Of training and judging, those before a kill included."""
    tokens: int | None = None

    def share(self, *, seconds: float, tokens: int) -> float:
        """Return how much of what is allowed was used, 1 for all of it."""
        shares = []
        if self.minutes is not None:
            shares.append(seconds / (60 * self.minutes))
        if self.tokens is not None:
            shares.append(tokens / self.tokens)
        return min(1.0, max(shares))


def learning_rate(highest: float, step: int, share: float) -> float:
    """Return the learning rate of a step.

    Args:
        highest: After the warm-up.
        step: Counted from 0.
        share: Of the training that is done, from 0 to 1; the number of steps need not be known.

    References:
        Loshchilov & Hutter, 2017, arXiv 1608.03983, equation 5 (one period, down to 0).
    """
    warm_up = min(1.0, max((step + 1) / WARM_UP_STEPS, share / WARM_UP_SHARE))
    return highest * warm_up * 0.5 * (1.0 + math.cos(math.pi * share))
