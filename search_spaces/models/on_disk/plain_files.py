"""Files of a model, found by name, read with care and within bounds."""

import codecs
import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from search_spaces.errors import ModelError, quoted

LARGEST_JSON_BYTES = 2**26


def find_file(source: str, name: str) -> Path | None:
    """Return a file of a model, or `None` if it has none of that name.

    Args:
        source: A HuggingFace folder or a hub name.
        name: In the folder.
    """
    if Path(source).is_dir():
        path = Path(source, name)
        return path if os.path.lexists(path) else None
    # that of transformers takes seconds, which whoever knows the folder can do without
    from transformers.utils.hub import cached_file  # noqa: PLC0415

    find: Any = cached_file
    file = find(
        source,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if file is None else Path(file)


def lies_inside(folder: Path, path: Path) -> bool:
    """Return whether a path, its links followed, lies in a model's folder.

    A snapshot in a cache of the hub keeps its files as links into the cache's ``blobs``.
    """
    home, target = (Path(os.path.realpath(each)) for each in (folder, path))
    roots = [home, *([home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [])]
    return any(target.is_relative_to(root) for root in roots)


def read_bytes(path: Path, largest: int, start: int = 0) -> bytes:
    """Return at most so many bytes of a file of a model, and one more if there are more.

    Raises:
        ModelError: If it cannot be read.
    """
    try:
        check_kind(path)
        with path.open("rb") as file:
            file.seek(start)
            return file.read(largest + 1)
    except OSError as error:
        raise unreadable(path, error) from error


def check_kind(path: Path) -> None:
    """Refuse a pipe or a device, whose content may never come, or never end.

    Raises:
        ModelError: If it is one.
        OSError: If it cannot be looked at.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ModelError(
            f"a model's files must be ordinary ones, and {quoted(str(path))} is a pipe or a "
            "device; put the file in its place"
        )


def unreadable(path: Path, error: OSError) -> ModelError:
    """Return the sentence for a file or folder that the system does not let us read."""
    shown = quoted(str(path))
    if isinstance(error, PermissionError):
        return ModelError(
            f"a model's files must be readable, and there is no permission to read {shown}; "
            "change its mode or that of its folder, or its owner"
        )
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return ModelError(
            f"a model's files must be there, and {shown} is a link to nothing; "
            "put the file in its place"
        )
    kind = "is a folder" if isinstance(error, IsADirectoryError) else "cannot be opened"
    if error.errno == errno.ELOOP:
        kind = "is a link in a circle"
    return ModelError(f"a model's files must be readable, and {shown} {kind}; put a file there")


def read_text(path: Path) -> str:
    """Read a text of a model.

    Raises:
        ModelError: If the file cannot be read, or is no text.
    """
    try:
        return read_bytes(path, LARGEST_JSON_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{quoted(str(path))} must be text, and it is not UTF-8; get a sound copy"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model.

    Raises:
        ModelError: If the file cannot be read or holds something else.
    """
    raw = read_bytes(path, LARGEST_JSON_BYTES)
    problem = ""
    value: object = None
    try:
        value = json.loads(raw.decode("utf-8")) if len(raw) <= LARGEST_JSON_BYTES else None
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    except json.JSONDecodeError as error:
        problem = f"breaks off or errs in line {error.lineno}" if raw.strip() else "is empty"
        if raw.startswith(codecs.BOM_UTF8):
            problem = "begins with a byte order mark"
    except (ValueError, RecursionError):  # numbers of thousands of digits, thousands of brackets
        problem = "holds what no model does"
    if len(raw) > LARGEST_JSON_BYTES:
        problem = f"has more than {LARGEST_JSON_BYTES >> 20} MiB"
    elif not problem and not isinstance(value, dict):
        problem = f"holds a {_kind(value)}"
    if problem:
        raise ModelError(
            f"{quoted(str(path))} must hold a JSON object, and it {problem}; get a sound copy"
        )
    assert isinstance(value, dict)
    return value


def _kind(value: object) -> str:
    names = {list: "list", str: "text", bool: "truth value", type(None): "null"}
    return names.get(type(value), "number")
