"""Starting the workers of a pool, and starting them again."""

import logging
from collections.abc import Callable

from planner.workers.worker import Worker
from search_spaces.errors import RunError

logger = logging.getLogger(__name__)

MOST_FAILED_STARTS = 4
"""In a row, after which no more workers are started."""


class Staffing:
    """Starts workers that are missing, unless too many in a row end before they are ready.

    Args:
        start: Starts a worker.
        size: Workers that there are to be.
    """

    def __init__(self, start: Callable[[], Worker], size: int) -> None:
        self._start = start
        self._size = size
        self._failed_starts = 0
        self.workers: list[Worker] = []
        """Those that were started and have not ended."""
        self.last_end = ""
        """How the last one ended."""

    def fill(self) -> None:
        """Start workers that are missing.

        Raises:
            RunError: If none can be started.
        """
        while len(self.workers) < self._size and self._failed_starts < MOST_FAILED_STARTS:
            try:
                self.workers.append(self._start())
            except OSError as error:  # such as too many processes
                self._fail(str(error))
        if not self.workers:
            raise RunError(
                "`workers` must be processes that can be started, got some that end before they "
                f"are ready, the last with {self.last_end}; mend that, or leave `--workers` out"
            )

    def hope(self) -> None:
        """Try again where starts failed, for what was missing may be there by now."""
        self._failed_starts = 0

    def end(self, worker: Worker) -> None:
        """Take a worker off that is dead, or silent for too long."""
        self.workers.remove(worker)
        self.last_end = worker.end(kindly=not worker.is_silent)
        if not worker.is_ready:
            self._fail(self.last_end)

    def close(self) -> None:
        """End all workers."""
        while self.workers:
            self.workers.pop().end(kindly=True)

    def _fail(self, end: str) -> None:
        self.last_end = end
        self._failed_starts += 1
        if self._failed_starts == MOST_FAILED_STARTS and self.workers:
            logger.warning(
                "going on with %d of %d workers (%s)", len(self.workers), self._size, end
            )
