"""Where an export is staged: next to its final name, on a disk with room for it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from search_spaces.atomic_files import writing
from search_spaces.errors import OutputError

_SPARE_BYTES = 50 * 2**20
"""Room for the tokenizer and all else that is not weights."""


def check_vacant(out: Path) -> None:
    """Refuse a folder that exists already.

    Raises:
        OutputError: If it does.
    """
    if out.exists():
        raise OutputError(
            f"`--out` must not exist yet, and `{out}` does; choose another name or remove it"
        )


@contextmanager
def scratch_beside(out: Path, weight_bytes: int) -> Iterator[Path]:
    """Provide a folder on the same disk, which is deleted afterwards, whatever happens.

    Raises:
        OutputError: If the disk is full or cannot be written to.
    """
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out.parent).free
    if free < weight_bytes + _SPARE_BYTES:
        raise OutputError(
            f"an export of {weight_bytes / 1e6:.0f} MB needs as much free space, and the disk of "
            f"`{out.parent}` has {free / 1e6:.0f} MB; free some space or choose another place"
        )
    with writing(out):
        scratch = tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent)
    with scratch as place:
        yield Path(place)


@contextmanager
def writing_weights(out: Path) -> Iterator[None]:
    """Turn what the system refuses while weights are written into an `OutputError`."""
    try:
        with writing(out):
            yield
    except SafetensorError as error:  # how safetensors reports what the system refused
        raise OutputError(
            f"`{out}` must be writable, got: {error}; free some space or choose another place"
        ) from error
