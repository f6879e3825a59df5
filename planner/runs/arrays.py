"""Arrays in a run's folder, read whole or refused."""

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from planner.runs.refusals import damaged
from search_spaces.errors import RunError

_DAMAGE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, NotImplementedError, OverflowError),
    *(RuntimeError, SyntaxError, struct.error, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What numpy and zipfile raise for bytes that they did not write."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return all arrays of an ``.npz`` file, whose checksums hold.

    Raises:
        RunError: If it is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise ValueError("one array")  # noqa: TRY004
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise damaged_arrays(path, "it is missing") from error
    except PermissionError:  # a sound file may be behind it
        raise
    except _DAMAGE as error:
        raise damaged_arrays(path, "its bytes are not those that were written") from error


def damaged_arrays(path: Path, what: str) -> RunError:
    """Return the error for a file whose arrays are not those of its run."""
    return damaged(path, what, "the arrays of its run")
