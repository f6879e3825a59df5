"""Atomic writes: a file is complete or absent, and an error message names a remedy."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search_spaces.errors import OutputError

_REMEDIES = {
    errno.ENOSPC: "free some space or choose another place",
    errno.EDQUOT: "free some of your quota or choose another place",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) or choose another place",
    errno.EROFS: "choose a place that is not mounted read-only",
    errno.EACCES: "choose a place that you may write to",
    errno.EPERM: "choose a place that you may write to",
    errno.ENOTDIR: "choose a path whose parents are folders",
    errno.EEXIST: "choose a path that is not a file",
    errno.EISDIR: "choose a path that is not a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn any `OSError` raised while ``path`` is written into an `OutputError`."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        remedy = _REMEDIES.get(error.errno or 0, "choose another place")
        raise OutputError(f"`{path}` must be writable, got: {reason}; {remedy}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` on success and is removed on failure.

    Raises:
        OutputError: If the path cannot be written to; an earlier file there is kept.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    with writing(path):
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            discard(temporary)
            raise


def atomic_write_text(path: Path, text: str) -> None:
    """Write a text file that is never seen half-written under its own name.

    Raises:
        OutputError: If the path cannot be written to; an earlier file there is kept.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def is_temporary(path: Path) -> bool:
    """Return whether ``path`` is an unfinished file of a killed process."""
    return path.name.startswith(".") and ".tmp" in path.suffixes


def discard(path: Path) -> None:
    """Remove a file if possible."""
    try:
        path.unlink()
    except OSError:
        return
