"""What the head of a GGUF file says of the model, for there is no card beside it.

References:
    https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from pathlib import Path
from typing import BinaryIO

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of each type of number."""
_TEXT, _LIST = 8, 9
_MOST_FIELDS, _MOST_ITEMS, _MOST_BYTES = 256, 64, 2**16
_FIELDS = {
    "general.license": "license",
    "general.license.name": "license_name",
    "general.license.link": "license_link",
    "general.languages": "language",
    "general.tags": "tags",
    "general.repo_url": "base_model",
    "general.base_model.0.repo_url": "base_model",
}
_HUB = "https://huggingface.co/"


def gguf_head(path: Path) -> dict[str, list[str]]:
    """Return the fields of a model's card that a GGUF file holds, up to its first long list.

    Args:
        path: The file; of one that is none, nothing is returned.
    """
    found: dict[str, list[str]] = {}
    try:
        with path.open("rb") as file:
            magic, _, _, count = struct.unpack("<4sIQQ", file.read(24))
            for _ in range(min(count, _MOST_FIELDS) if magic == b"GGUF" else 0):
                name, values = _text(file), _values(file)
                if name in _FIELDS:
                    found.setdefault(_FIELDS[name], []).extend(values)
    except (OSError, ValueError, KeyError, struct.error):  # a long list, or no such file
        pass
    return {name: [value.removeprefix(_HUB) for value in all_] for name, all_ in found.items()}


def _values(file: BinaryIO) -> list[str]:
    """Return a value that is text or a list of texts, and skip any other.

    Raises:
        ValueError: If it is too long.
    """
    (kind,) = struct.unpack("<I", file.read(4))
    count, is_list = 1, kind == _LIST
    if is_list:
        kind, count = struct.unpack("<IQ", file.read(12))
    if count > _MOST_ITEMS:
        raise ValueError(count)
    if kind == _TEXT:
        return [_text(file) for _ in range(count)]
    file.seek(_SIZES[kind] * count, 1)
    return []


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > _MOST_BYTES:
        raise ValueError(length)
    return file.read(length).decode("utf-8", "replace")
