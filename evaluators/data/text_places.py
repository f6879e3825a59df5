"""What a user's name of text stands for: a file, a folder, a pattern of names, or a data set."""

import glob
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from evaluators.data.text_files import unreadable
from search_spaces.errors import DataError, quoted
from search_spaces.paths import existing_path
from search_spaces.suggestions import suggestion

logger = logging.getLogger(__name__)

_DATA_SET = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?(:[^/:]+)?", re.ASCII)
"""A name on the hub, and its configuration."""
_SPLITS_FILE = "dataset_dict.json"
_STATE_FILE = "state.json"


def text_paths(data: str, option: str) -> list[Path] | None:
    """Return the files and folders that a name stands for; None: it may be a data set's.

    A name that exists is a path, whatever signs are in it.

    Raises:
        DataError: If it is no path that exists, and can be no data set.
    """
    if not data.strip():
        raise DataError(
            f"`{option}` must be a file, a folder or a data set's name, got none; check the "
            "variable that should hold it, or leave the option out"
        )
    path = existing_path(data)
    if _exists(path, option):
        return [path]
    matches = named_paths(data)
    if matches:
        names = quoted(", ".join(path.name for path in matches), 160)
        logger.info("%s is a pattern; %d files are read: %s", quoted(data), len(matches), names)
        return matches
    suffix = Path(data).suffix
    if suffix[1:].isalpha() or not _DATA_SET.fullmatch(data):  # no version, as in x-2.5
        raise DataError(
            f"`{option}` must be a file that exists, got {quoted(data)}{_why_not(data)}; "
            "check the path"
        )
    return None


def _exists(path: Path, option: str) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unreadable(str(path), option, error) from error
    except ValueError as error:
        raise DataError(
            f"`{option}` must be a path, and {quoted(str(path))} holds a sign that no path may; "
            "check the path"
        ) from error
    return True


def named_paths(data: str) -> list[Path]:
    """Return the path of a name if it exists, else those that it matches as a pattern.

    A pattern begins below the folder that is there, whatever signs are in its name.
    """
    pattern = existing_path(data)
    if os.path.lexists(pattern):
        return [pattern]
    folder = next(parent for parent in pattern.parents if parent.is_dir())
    below = str(pattern.relative_to(folder))
    found = glob.glob(below, root_dir=folder, recursive=True)  # noqa: PTH207  (hidden ones left out)
    return [folder / name for name in sorted(found)]


def _why_not(data: str) -> str:
    """Return why a name that looks like a path leads nowhere, if that can be said."""
    user = data.partition("/")[0]
    if user.startswith("~") and os.path.expanduser(user) == user:  # noqa: PTH111
        return (
            f", and nobody called `{user[1:]}` has a home here" if user[1:] else ", without a home"
        )
    if "://" in data:
        return ", and addresses are not fetched"
    return ", a pattern of no file" if glob.has_magic(data) else ""


def files_in(path: Path, split: str, option: str) -> list[Path]:
    """Return the files of a folder in order, but for hidden ones; a file is its own.

    Args:
        path: Of a file, a folder, or a folder that `save_to_disk` of `datasets` wrote.
        split: Taken of such a folder, if it holds several.
        option: That names the path.

    Raises:
        DataError: If the folder holds no such split, or cannot be read.
    """
    try:
        if not path.is_dir():
            return [path]
        if (path / _SPLITS_FILE).is_file():
            path = path / _split(path, split, option)
        if (path / _STATE_FILE).is_file():
            return [*_saved(path, option)]
        return sorted(_walked(path))
    except OSError as error:
        raise unreadable(str(error.filename or path), option, error) from error


def _walked(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(place, name) for name in names if not name.startswith("."))
        yield from (path for path in paths if path.is_file())


def _split(folder: Path, split: str, option: str) -> str:
    splits = _listed(folder / _SPLITS_FILE, "splits", option)
    if not splits:
        raise DataError(
            f"`{option}` must be a data set with splits, and {quoted(str(folder))} lists none; "
            "save the data set again"
        )
    if split not in splits:
        raise DataError(
            f"`--split` must be one of {quoted(', '.join(splits), 120)} in {quoted(str(folder))}, "
            f"got {quoted(split, 40)}; {suggestion(split, splits[:8])}"
        )
    return split


def _saved(folder: Path, option: str) -> Iterator[Path]:
    """Yield the Arrow files of a saved data set, which lie in its folder and nowhere else."""
    for name in _listed(folder / _STATE_FILE, "_data_files", option):
        yield folder / name


def _is_plain(name: str) -> bool:
    """Return whether a name is that of a file in its folder, and can be one."""
    return Path(name).name == name not in ("", "..") and name.isprintable()


def _listed(path: Path, key: str, option: str) -> list[str]:
    """Return the plain names that a JSON file lists under a key."""
    try:
        listed = json.loads(path.read_bytes())[key]
        names = [one["filename"] if isinstance(one, dict) else one for one in listed]
        if isinstance(listed, list) and all(map(_is_plain, names)):
            return names
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise DataError(
        f"`{option}` must be a sound folder of `save_to_disk`, and {quoted(str(path))} lists no "
        f"names of files under `{key}`; save the data set again"
    )
