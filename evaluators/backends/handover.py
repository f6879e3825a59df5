"""Candidates of a population that others take over while it is being scored."""

import threading

import numpy as np
from numpy.typing import NDArray

from evaluators.backends.work import Work


class Handover:
    """Which members of a population others have taken over; asked by one thread, told by another.

    What is about to be measured stays: each member is measured here or elsewhere, and once.

    Args:
        count: Members, in the order of the tree.
        work: Of them; None: they are taken over together, and only before they are begun.
    """

    def __init__(self, count: int, work: Work | None) -> None:
        self._lock = threading.Lock()
        self._work = work
        self._left = list(range(count))
        """Members that are neither about to be measured nor given up."""
        self._given_up: list[int] = []
        self._is_begun = False

    def give_up(self) -> list[int]:
        """Let somebody who has nothing to do have some members, and return them.

        Those are all of a population that is not begun, or else so many of the last ones that the
        later of both is done soonest, with a prefix that is run anew. None if none is.
        """
        with self._lock:
            place = self._place() if self._is_begun else 0
            self._left, given = self._left[:place], self._left[place:]
            self._given_up += given
        return given

    def keep(self, members: NDArray[np.int_], begins: bool) -> NDArray[np.int_]:  # noqa: FBT001
        """Return the members that nobody else has; see `Keep`."""
        with self._lock:
            self._is_begun = True
            if self._given_up:
                members = members[~np.isin(members, self._given_up)]
            if begins:
                begun = set(members.tolist())
                self._left = [member for member in self._left if member not in begun]
        return members

    def _place(self) -> int:
        if self._work is None or not self._left:
            return len(self._left)
        return self._work.of(self._left).begun().best_cut() or len(self._left)
