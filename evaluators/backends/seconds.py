"""How long each kind of work takes, by what parts of populations took."""

from collections import deque

import numpy as np
from scipy.optimize import nnls

from evaluators.backends.work import Floats

KINDS = 3
"""Of what takes time: multiply–accumulates in layers, runs of components, and
multiply–accumulates of reading out."""
_BY_PRODUCTS = (1.0, 0.0, 1.0)
_FEWEST, _MOST = 4 * KINDS, 256
"""Parts that times are fitted to: enough for chance to count little, and the latest."""


class Seconds:
    """What each kind of work takes, fitted to parts that were measured.

    Until enough of them are, it is counted in multiply–accumulates: a component takes time
    besides its products, and those of reading out are not as fast as those of layers.
    """

    def __init__(self) -> None:
        self._measured: deque[Floats] = deque(maxlen=_MOST)
        self.rates = np.array(_BY_PRODUCTS)
        """Of each kind, ``(kinds,)``; times amounts of a part they give its work."""

    def learn(self, amounts: Floats, seconds: float) -> None:
        """Take in what one part took.

        Args:
            amounts: Of each kind of work, ``(kinds,)``.
            seconds: That it took.
        """
        if seconds <= 0:
            return
        self._measured.append(amounts / seconds)
        if len(self._measured) >= _FEWEST:
            shares = np.stack(self._measured)
            scales = shares.mean(axis=0)
            # relative errors of all parts alike: each row's estimate is to be 1
            found, _ = nnls(shares / scales, np.ones(len(shares)))
            self.rates = found / scales
