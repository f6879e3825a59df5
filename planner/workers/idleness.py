"""How long workers wait for each other."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Idleness:
    """Adds up the time in which some workers could have worked, and in which they did not.

    Args:
        now: Returns seconds since some moment.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ready_seconds = self._idle_seconds = 0.0

    @property
    def share(self) -> float:
        """Share of the workers' time in which they waited for others to end their tasks."""
        return self._idle_seconds / self._ready_seconds if self._ready_seconds else 0.0

    @contextmanager
    def watched(self, ready: int, idle: int) -> Iterator[None]:
        """Count the time within.

        Args:
            ready: Workers that could work.
            idle: Those of them that have nothing to do.
        """
        started = self._now()
        yield
        passed = self._now() - started
        self._ready_seconds += ready * passed
        self._idle_seconds += idle * passed
