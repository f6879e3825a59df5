"""What it takes to score candidates one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work of candidates that are scored one after the other, in the order of the tree."""

    alone: Floats
    """Of each by itself, ``(candidates,)``."""
    beyond: Floats
    """Of each beyond what it shares with the one before it, ``(candidates,)``."""

    @property
    def total(self) -> float:
        """That of all of them, by one worker."""
        return float(self.alone[0] + self.beyond[1:].sum()) if len(self.alone) else 0.0

    def of(self, members: Sequence[int]) -> "Work":
        """Return that of some of them."""
        chosen = list(members)
        return Work(alone=self.alone[chosen], beyond=self.beyond[chosen])

    def begun(self) -> "Work":
        """Return what is left while the first one is worked on: half of it, as far as is known."""
        return Work(alone=np.append(self.beyond[:1] / 2, self.alone[1:]), beyond=self.beyond)

    def best_cut(self) -> int:
        """Return where to cut so that the dearer side is cheapest; 0: none is cheaper than all.

        The second side runs the prefix of its first candidate anew.

        >>> Work(alone=np.array([4.0, 4.0, 4.0]), beyond=np.array([4.0, 1.0, 2.0])).best_cut()
        2
        """
        if len(self.alone) < 2:
            return 0
        sums = np.append(0.0, np.cumsum(self.beyond[1:]))
        dearer = np.maximum(self.alone[0] + sums[:-1], self.alone[1:] + sums[-1] - sums[1:])
        place = int(np.argmin(dearer))
        return place + 1 if dearer[place] < self.total else 0
