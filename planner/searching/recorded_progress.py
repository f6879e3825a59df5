"""Progress that is recorded in the run, for whoever reads it without this process."""

import time

from planner.runs.records import RunState
from planner.runs.run_store import RunStore
from planner.searching.spending import SearchProgress, plan_count
from planner.workers.backends import Backends
from search_spaces.progress import Progress

_SECONDS = 1.0
"""Between two records inside a stage: each waits for the disk."""


class RecordedProgress:
    """Passes progress on, and records it in the run: each stage, and once a second inside it.

    Args:
        run: Whose status follows.
        progress: Receives the same.
        state: Of the run.
        backends: What scores, if it is known.
    """

    def __init__(
        self,
        run: RunStore,
        progress: Progress,
        state: RunState,
        backends: Backends | None = None,
    ) -> None:
        self._backends = backends
        self._run = run
        self._progress = progress
        self._state = state
        self._title = ""
        self._recorded = time.monotonic()

    def enter(self, state: RunState) -> None:
        """Go on in another state."""
        self._state = state

    def stage(self, title: str) -> None:
        self._progress.stage(title)
        self._title, self._recorded = title, time.monotonic()
        self._run.record_status(self._state, title)

    def advance(self, done: int, total: int) -> None:
        self._progress.advance(done, total)
        if self._is_due():
            self._run.record_status(self._state, self._title, min(1.0, done / max(1, total)))

    def note(self, text: str) -> None:
        self._progress.note(text)

    def searched(self, progress: SearchProgress, best: str = "") -> None:
        """Report how far a search has come.

        Args:
            progress: Of the search.
            best: What its best plan is so far, in words; empty: nothing is asked of plans.
        """
        self._progress.advance(round(100 * progress.share), 100)
        workers = "" if self._backends is None else self._backends.doing
        self._progress.note(_note(progress, best, workers))
        if self._is_due():
            self._run.record_status(
                self._state,
                progress.doing or self._title,
                progress.share,
                eta_seconds=progress.eta_seconds,
                tokens=progress.tokens,
            )

    def _is_due(self) -> bool:
        now = time.monotonic()
        is_due = now - self._recorded >= _SECONDS
        self._recorded = now if is_due else self._recorded
        return is_due


def _note(progress: SearchProgress, best: str, workers: str) -> str:
    eta = progress.eta_seconds
    left = "" if eta is None else f"{eta / 60:.1f} min left"
    return " · ".join(
        filter(None, [best, plan_count(progress.done), progress.doing, workers, left])
    )
