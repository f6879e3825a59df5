"""Check that the surrogate ranks unscored plans better than adding sensitivities up does."""

import logging

import numpy as np
from scipy.stats import rankdata

from planner.searchers.protocol import Floats

logger = logging.getLogger(__name__)

_MOST_PLANS = 48
"""Plans that the ranks are compared over: the latest."""
_FEWEST_PLANS = 16
_LOG_INTERVAL = 5
"""Batches from one log message to the next."""


class SurrogateCheck:
    """Compares what was expected of each batch with its scores.

    How both predictions rank is logged now and then, and when the decision changes.

    References:
        Spearman, 1904, "The proof and measurement of association between two things".
    """

    def __init__(self) -> None:
        self._expected = self._additive = self._measured = np.empty(0)
        self._batches = 0
        self.passed = True
        """Whether to follow the surrogate, and not the additive trend."""

    def observe(self, expected: Floats, additive: Floats, kls: Floats) -> None:
        """Compare predictions made before a batch was scored with its KL, ``(plans,)`` each.

        Args:
            expected: By the surrogate.
            additive: By the sum of single-site sensitivities.
            kls: Measured.
        """
        self._expected = np.append(self._expected, expected)[-_MOST_PLANS:]
        self._additive = np.append(self._additive, additive)[-_MOST_PLANS:]
        self._measured = np.append(self._measured, kls)[-_MOST_PLANS:]
        self._batches += 1
        if len(self._measured) < _FEWEST_PLANS:
            return
        of_surrogate, of_additive = (
            rank_correlation(prediction, self._measured)
            for prediction in (self._expected, self._additive)
        )
        passed = of_surrogate > of_additive
        if passed != self.passed:
            follows = "the surrogate again" if passed else "the sum of single-site sensitivities"
            logger.info("%s: going by %s", _summary(of_surrogate, of_additive), follows)
        elif self._batches % _LOG_INTERVAL == 0:
            logger.info(_summary(of_surrogate, of_additive))
        self.passed = passed


def rank_correlation(left: Floats, right: Floats) -> float:
    """Return Spearman's correlation, from −1 to 1; 0 where one of them is constant."""
    ranks = np.stack([rankdata(left), rankdata(right)])
    if (ranks.std(axis=1) == 0).any():
        return 0.0
    return float(np.corrcoef(ranks)[0, 1])


def _summary(of_surrogate: float, of_additive: float) -> str:
    return (
        f"rank correlation on plans not seen before: surrogate {of_surrogate:.2f}, "
        f"sum of single-site sensitivities {of_additive:.2f}"
    )
