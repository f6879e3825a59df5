"""The runs in a folder: what each is of, how far it has come, and what it answers."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path, PurePath

from planner.results.answers import answer_of, own_budget
from planner.runs.folder import DATABASE_FILE, SETTINGS_FILE, check_no_links
from planner.runs.records import RunState
from planner.runs.run_store import RunStore
from search_spaces.errors import BudgetError, InputError, RunError

_DEEPEST = 4
"""Folders inside each other that are looked through for runs."""
_KNOWN_RUNS = 256
"""Runs whose entries are kept until their files change."""


@dataclass(frozen=True, kw_only=True)
class RunEntry:
    """One run, or comparison of runs, as a list shows it."""

    path: PurePath
    """Relative to the folder that was looked through; ``.`` if it is the run."""
    state: RunState | None = None
    """`None` if it cannot be read; a killed search is in the state that it was in."""
    phase: str = ""
    """What it is doing, or did when it ended, in words."""
    updated_at: datetime | None = None
    """When it last said so, UTC."""
    model: str = ""
    """Name of the model that is searched."""
    budget: str = ""
    """That it was searched under; empty: none."""
    evaluations: int = 0
    """Plans that were scored."""
    recipes: tuple[str, ...] = ()
    """Of a comparison, whose runs have entries of their own."""
    answer: str = ""
    """Its best plan in a sentence, or why there is none yet; empty: nobody asked."""
    fault: str = ""
    """Why it cannot be read; empty: it can."""


def list_runs(folder: Path, *, answers: bool = True) -> list[RunEntry]:
    """Return an entry for each run in a folder, by path; one that is broken has its fault.

    No link is followed, so that nothing outside of the folder is read.

    Args:
        folder: A folder of runs and comparisons, in folders inside each other; or one of these.
        answers: Whether to read all plans for the answers; if not, these are empty, and plans are
            counted alone.

    Raises:
        RunError: If there is no such folder, or it cannot be read.
    """
    if not folder.is_dir():
        raise RunError(
            f"`{folder}` must be a folder with runs in it, got none; give the folder that the "
            "--out of your searches is in"
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise RunError(
            f"`{folder}` must be a folder that you may read, got one that you may not; change its "
            "permissions, or choose another"
        )
    found = (
        replace(_entry(run, answers=answers), path=run.relative_to(folder))
        for run in _runs(folder)
    )
    return sorted(found, key=lambda entry: entry.path.parts)


def _runs(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Yield the folders of runs, looking into a run for those of its recipes alone."""
    is_run = any(os.path.lexists(folder / name) for name in (SETTINGS_FILE, DATABASE_FILE))
    if is_run:
        yield folder
    if depth == _DEEPEST:
        return
    for inner in _folders(folder):
        if not is_run:
            yield from _runs(inner, depth + 1)
        elif os.path.lexists(inner / SETTINGS_FILE):
            yield inner


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            ]
    except OSError:  # one that was just removed, or is another user's
        return []


def _entry(folder: Path, *, answers: bool) -> RunEntry:
    """Return the entry of a run, read again only if its files changed."""
    try:
        check_no_links(folder)
        stamps = tuple(_stamp(folder / name) for name in _written_files())
        return _read(folder, stamps, answers=answers)
    except (InputError, OSError) as error:
        return RunEntry(path=folder, model="", fault=str(error))


def _written_files() -> tuple[str, ...]:
    return SETTINGS_FILE, DATABASE_FILE, f"{DATABASE_FILE}-wal"


def _stamp(path: Path) -> tuple[int, int]:
    """Return what tells whether a file changed."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@lru_cache(_KNOWN_RUNS)
def _read(
    folder: Path,
    stamps: tuple[tuple[int, int], ...],  # noqa: ARG001  (key)
    *,
    answers: bool,
) -> RunEntry:
    with RunStore.open(folder, live=not answers) as run:
        status, settings = run.status, run.settings
        return RunEntry(
            path=folder,
            state=status.state,
            phase=status.phase or status.failure,
            updated_at=status.updated_at,
            model=PurePath(settings.model).name,
            budget=str(settings.budget or ""),
            evaluations=run.evaluation_count,
            recipes=run.metadata.recipes or (),
            answer=_answer(run) if answers and not run.metadata.recipes else "",
        )


def _answer(run: RunStore) -> str:
    """Return the best plan within the budget that a run was searched for, or why there is none."""
    if run.metadata.dense is None or not run.landed():
        return "no plan is scored yet"
    budget = own_budget(run)
    if budget is None:
        return "no budget to judge by, and no knee yet"
    try:
        return answer_of(run, budget).sentence()
    except BudgetError as error:
        return str(error)
