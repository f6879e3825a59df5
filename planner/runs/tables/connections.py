"""Connections to the database of a run."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opening(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Close a connection to what turns out to be no run."""
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def read_only(path: Path) -> sqlite3.Connection:
    """Connect to a database that must be there, and not change it."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
