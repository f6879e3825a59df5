"""The time that goes by while workers score: on the wall, or simulated."""

import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Protocol


class Clock(Protocol):
    """Tells the time, and lets it pass."""

    def now(self) -> float:
        """Return seconds since some moment."""
        ...

    def wait(self, connections: Sequence[Connection], seconds: float) -> Sequence[object]:
        """Return the connections that hold something, once one does or the time is over."""
        ...


class WallClock:
    """The time of this machine."""

    def now(self) -> float:
        return time.monotonic()

    def wait(self, connections: Sequence[Connection], seconds: float) -> Sequence[object]:
        return wait(connections, seconds)


WALL_CLOCK: Clock = WallClock()
