"""What a run's database refuses, in sentences with a remedy."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from planner.runs.tables.cells import DamageError
from search_spaces.errors import InputError, OutputError, RunError


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite or the rows themselves refuse into a sentence with a remedy.

    Raises:
        RunError: If the database is damaged or in use.
        OutputError: If its disk refuses.
    """
    try:
        yield
    except DamageError as error:
        raise damaged(path, str(error)) from error
    except sqlite3.DatabaseError as error:
        if type(error) not in {sqlite3.DatabaseError, sqlite3.OperationalError}:
            raise  # a defect of ours
        raise _refusal(path, error) from error


def _refusal(path: Path, error: sqlite3.DatabaseError) -> InputError:
    name = getattr(error, "sqlite_errorname", None) or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return RunError(
            f"`{path}` must be free, and another program holds a lock on it; wait for that "
            "program to end, or stop it, then try again"
        )
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return RunError(
            f"`{path}` must be a file that you may open, and the system refuses it; check the "
            "permissions of the file and of its folder"
        )
    if name.startswith(("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR")) and not (
        name.startswith(("SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT_READ", "SQLITE_IOERR_CORRUPT"))
    ):
        return OutputError(
            f"`{path}` must be writable, and its disk is full or read-only; free some space, or "
            "allow writing, and go on with --resume"
        )
    if name == "SQLITE_NOTADB":
        return damaged(path, "it is no database")
    return damaged(path, "its tables cannot be read")


def foreign_version(error: ValidationError) -> int | None:
    """Return the version that a JSON text has where it is none of those that are known."""
    faults = (fault for fault in error.errors() if fault["loc"] == ("version",))
    return next((f["input"] for f in faults if type(f["input"]) is int), None)


def damaged(path: Path, what: str, content: str = "the database of a run") -> RunError:
    """Return the error for a file of a run that holds something else than was written."""
    return RunError(
        f"`{path}` must hold {content}, and it is damaged: {what}; restore it from a copy, or "
        "search into another --out"
    )
