"""Writing files of tensors: what the system refuses becomes one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from search_spaces.atomic_files import writing
from search_spaces.errors import OutputError


@contextmanager
def writing_tensors(path: Path) -> Iterator[None]:
    """Turn what the system refuses while tensors are written to a path into an `OutputError`."""
    try:
        with writing(path):
            yield
    except SafetensorError as error:  # how safetensors reports what the system refused
        raise OutputError(
            f"`{path}` must be writable, got: the system refuses its content; free some space or "
            "choose another place"
        ) from error
