"""Whether the surrogate ranks plans that it has not seen better than adding up does."""

import logging

import numpy as np
from scipy.stats import rankdata

from planner.searchers.protocol import Floats

logger = logging.getLogger(__name__)

_REMEMBERED = 48
"""Plans that the ranks are compared over: the latest."""
_ENOUGH = 16
_SAID_EACH = 5


class SurrogateCheck:
    """Keeps what was expected of each batch beside what it came to.

    How both rank is logged now and then, and when the decision changes.

    References:
        Spearman, 1904, "The proof and measurement of association between two things".
    """

    def __init__(self) -> None:
        self._expected = self._additive = self._measured = np.empty(0)
        self._batches = 0
        self.learned = True
        """Whether the surrogate is to be followed, and not the additive trend."""

    def observe(self, expected: Floats, additive: Floats, kls: Floats) -> None:
        """Compare what was expected before a batch was scored with its KL, ``(plans,)`` each."""
        self._expected = np.append(self._expected, expected)[-_REMEMBERED:]
        self._additive = np.append(self._additive, additive)[-_REMEMBERED:]
        self._measured = np.append(self._measured, kls)[-_REMEMBERED:]
        self._batches += 1
        if len(self._measured) < _ENOUGH:
            return
        ours, theirs = (
            rank_correlation(guess, self._measured) for guess in (self._expected, self._additive)
        )
        learned = ours > theirs
        if learned != self.learned:
            follows = "the surrogate again" if learned else "single-site harm, as added up"
            logger.info("%s: going by %s", _told(ours, theirs), follows)
        elif self._batches % _SAID_EACH == 0:
            logger.info(_told(ours, theirs))
        self.learned = learned


def rank_correlation(left: Floats, right: Floats) -> float:
    """Give Spearman's correlation, from −1 to 1; 0 where one of them is constant."""
    ranks = np.stack([rankdata(left), rankdata(right)])
    if (ranks.std(axis=1) == 0).any():
        return 0.0
    return float(np.corrcoef(ranks)[0, 1])


def _told(ours: float, theirs: float) -> str:
    return (
        f"rank correlation on plans not seen before: surrogate {ours:.2f}, "
        f"single-site harm added up {theirs:.2f}"
    )
