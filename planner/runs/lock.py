"""The lock on a run's folder: one process searches in it at a time."""

from pathlib import Path

from filelock import FileLock, Timeout

from planner.runs.folder import LOCK_FILE
from search_spaces.atomic_files import writing
from search_spaces.errors import InputError, RunError


def lock_folder(folder: Path) -> FileLock:
    """Return the acquired lock of a run; the kernel holds it, so that a killed process frees it.

    Raises:
        RunError: If another process holds it.
        OutputError: If the folder cannot be written to.
    """
    refusal = RunError(
        f"`{folder}` must be searched by one process at a time, got a second; "
        "wait for the first to end, or stop it, then use --resume"
    )
    return acquired(folder / LOCK_FILE, refusal)


def acquired(path: Path, refusal: InputError) -> FileLock:
    """Return the acquired lock of a file, which the kernel holds.

    Args:
        path: The file; its folder is there.
        refusal: What is raised if another process holds it.

    Raises:
        InputError: If another process holds it.
        OutputError: If the folder cannot be written to.
    """
    lock = FileLock(path)
    with writing(path.parent):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:  # an OSError too
            raise refusal from error
    return lock
