"""What identifies the files that a text is read from, so that a change of them is noticed."""

import hashlib
import os
from pathlib import Path

from evaluators.data.text_places import files_in, named_paths
from search_spaces.errors import DataError

MOST_BYTES = 2**30
"""That are read of all files of a text; of the rest, names and sizes count."""


def digest_of_text(data: str, *, split: str = "train", option: str = "--data") -> str:
    """Return what identifies the files that a name of text stands for.

    Args:
        data: As for `read_documents`.
        split: Of a folder of `save_to_disk`.
        option: That gives ``data``.

    Returns:
        Empty if there are no such files here, or none that can be read: a data set's name may
        stand for other text at any time.
    """
    digest, left = hashlib.sha256(), MOST_BYTES
    try:
        files = [inside for path in named_paths(data) for inside in files_in(path, split, option)]
        for file in filter(os.path.isfile, files):
            left -= _add(digest, file, left)
    except (OSError, ValueError, DataError):
        return ""
    return digest.hexdigest()[:16] if files else ""


def _add(digest: "hashlib._Hash", path: Path, most: int) -> int:
    """Add a file's name, size and first bytes to a digest, and return how many bytes these are."""
    size = path.stat().st_size
    digest.update(f"{len(path.name)} {path.name} {size};".encode("utf-8", "surrogateescape"))
    left = min(size, most)
    with path.open("rb") as content:
        while left > 0 and (block := content.read(min(left, 2**20))):
            digest.update(block)
            left -= len(block)
    return min(size, most)
