"""The runs of a folder, open to be read live by many visitors at once."""

import gc
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeVar

from evaluators.runtime.allocator import release_pages
from planner.browse.inner_paths import run_folder
from planner.figures.front_points import FrontPoints
from planner.results.run_list import RunEntry, list_runs
from planner.run import Run
from planner.runs.folder import DATABASE_FILE, check_no_links
from planner.runs.records import RunStatus
from search_spaces.errors import InputError, RunError, in_words

Answer = TypeVar("Answer")

_MOST_OPEN = 8
"""Runs that are held in memory; a ninth takes the place of the one that nobody asks for."""
_IDLE_SECONDS = 300.0
"""After which a run that nobody looks at is closed."""
_LIST_SECONDS = 4.0
"""For which a list of the runs is good."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """A run as it was at one moment."""

    name: str
    """Its path below the folder of the page."""
    status: RunStatus | None = None
    """`None` if the run cannot be read."""
    points: FrontPoints | None = None
    """Its plans; `None` if the search has not begun to score, or they cannot be read."""
    note: str = ""
    """Why there are no plans, in a sentence, with commands that mend it on lines of their own."""
    is_damaged: bool = False
    """Whether that is a fault, and not for want of time."""

    @property
    def revision(self) -> str:
        """What changes when the plans of the run do."""
        return f"{self.points.revision}" if self.points else self.note


@dataclass(kw_only=True, eq=False)
class _OpenRun:
    run: Run
    identity: tuple[int, int]
    """Of the database, should another take its name."""
    points: FrontPoints | None = None
    asked_at: float = 0.0


class RunShelf:
    """Opens runs when somebody asks for them, and closes those that nobody asks for.

    Databases belong to one thread, which reads for all visitors; what it returns never changes.

    Args:
        folder: That the runs are in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="runs")
        self._open: dict[str, _OpenRun] = {}
        self._listing = Lock()
        self._listed: tuple[float, list[RunEntry]] = (0.0, [])

    def entries(self) -> list[RunEntry]:
        """Return what is in the folder, as it was a few seconds ago at most.

        Raises:
            RunError: If the folder is gone.
        """
        with self._listing:
            listed_at, entries = self._listed
            if not entries or time.monotonic() - listed_at > _LIST_SECONDS:
                entries = list_runs(self.folder, answers=False)
                self._listed = time.monotonic(), entries
            return entries

    def look(self, name: str) -> Look:
        """Return a run as it is now; one that cannot be read says so."""
        return self._reader.submit(self._look, name).result()

    def looks(self, names: Sequence[str]) -> list[Look]:
        """Return several runs as they are now."""
        return [self.look(name) for name in names]

    def ask(self, question: Callable[..., Answer], *names: str) -> Answer:
        """Return the answer of runs to a question.

        Args:
            question: Gets the runs, and is answered on the thread that reads.
            names: Of the runs.

        Raises:
            InputError: If a run cannot be read, or there is no answer.
        """
        return self._reader.submit(
            lambda: question(*[self._opened(name).run for name in names])
        ).result()

    def close(self) -> None:
        """Close all runs."""
        self._reader.submit(self._close_all).result()
        self._reader.shutdown()

    def _look(self, name: str) -> Look:
        try:
            opened = self._opened(name)
            status = opened.run.status
            has_begun = opened.run.metadata.dense is not None
        except InputError as error:
            self._drop(name)
            return Look(name=name, note=in_words(error), is_damaged=True)
        try:
            return Look(name=name, status=status, points=_read(opened, name))
        except InputError as error:
            note = in_words(error)
            return Look(name=name, status=status, note=note, is_damaged=has_begun)

    def _opened(self, name: str) -> _OpenRun:
        """Return a run that is open, and close those that nobody asks for.

        Raises:
            RunError: If the run cannot be read.
        """
        folder = run_folder(self.folder, name)
        try:
            check_no_links(folder)
            identity = _identity(folder / DATABASE_FILE)
            known = self._open.get(name)
            if known is not None and known.identity != identity:
                self._drop(name)
                known = None
            if known is None:
                known = _OpenRun(run=Run.open(folder), identity=identity)
                self._open[name] = known
        except OSError as error:
            raise RunError(
                f"`{folder}` must be a run that can be read, got: {error.strerror}; see to its "
                "permissions and its name"
            ) from error
        known.asked_at = time.monotonic()
        self._drop_others(name)
        return known

    def _drop_others(self, name: str) -> None:
        """Close the runs that nobody asks for, and never the one that is asked now."""
        others = sorted(set(self._open) - {name}, key=lambda n: -self._open[n].asked_at)
        oldest = time.monotonic() - _IDLE_SECONDS
        for place, other in enumerate(others, start=1):
            if place >= _MOST_OPEN or self._open[other].asked_at < oldest:
                self._drop(other)

    def _drop(self, name: str) -> None:
        known = self._open.pop(name, None)
        if known is not None:
            known.run.close()

    def _close_all(self) -> None:
        for name in list(self._open):
            self._drop(name)


def latest(entries: Sequence[RunEntry]) -> RunEntry | None:
    """Return the run that was written to last, of those that scored something if any did."""
    sound = [entry for entry in entries if entry.updated_at is not None and not entry.recipes]
    return max(sound, key=lambda e: (bool(e.evaluations), e.updated_at), default=None)


def _read(opened: _OpenRun, name: str) -> FrontPoints:
    """Return the plans of a run; only what is younger than those that are known is read.

    Raises:
        RunError: If none is scored yet.
    """
    run, known = opened.run, opened.points
    if known is None:
        opened.points = FrontPoints.of(run, name)
        release_pages()  # reading takes as much again as what stays
        gc.freeze()  # a million objects that stay: to look for garbage among them takes a second
    else:
        opened.points = known.updated(run)
    return opened.points


def _identity(database: Path) -> tuple[int, int]:
    """Return which file this is, whatever its name."""
    try:
        found = database.stat()
    except FileNotFoundError:
        return 0, 0  # opening says what is missing
    return found.st_dev, found.st_ino
