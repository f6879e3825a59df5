"""Where an export is staged: next to its final name, on a disk with room for it."""

import errno
import os
import shutil
from pathlib import Path

from search_spaces.atomic_files import LONGEST_NAME, writing
from search_spaces.errors import OutputError
from search_spaces.paths import existing_path

SPARE_BYTES = 50 * 2**20
"""Room for the tokenizer and all else that is not weights."""


def check_vacant(out: Path, model: str) -> None:
    """Refuse a folder that is taken, cannot be made, or would lie in the model's own.

    Raises:
        OutputError: If it is.
    """
    with writing(out):
        if _is_there(out):
            _check_replaceable(out)
        if len(os.fsencode(out.name)) > LONGEST_NAME:
            raise OSError(errno.ENAMETOOLONG, "too long")
        parent = next(folder for folder in out.absolute().parents if folder.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "not writable")
    source = existing_path(model)
    is_folder = os.path.isdir(source)  # noqa: PTH112  (of a name of any length)
    if is_folder and out.resolve().is_relative_to(source.resolve()):
        raise OutputError(
            f"`--out` must lie outside of the model's folder, got `{out}`; choose another place"
        )


def _check_replaceable(out: Path) -> None:
    """Refuse what the finished export cannot take the place of, as it can of an empty folder.

    Raises:
        OutputError: If it is not one, or must stay where it is.
    """
    if out.is_symlink() or not out.is_dir() or any(out.iterdir()):
        raise OutputError(
            f"`--out` must not exist yet or be an empty folder, and `{out}` is taken; choose "
            "another name or remove it"
        )
    if out.is_mount() or out.samefile(Path.cwd()):
        raise OutputError(
            "`--out` is replaced by the finished export, which a mounted folder and the current "
            f"one cannot be, got `{out}`; name a new folder in it"
        )


def _is_there(path: Path) -> bool:
    try:
        path.lstat()  # a link to nowhere is there too
    except FileNotFoundError:
        return False
    return True


def check_room(out: Path, weight_bytes: int) -> None:
    """Refuse a disk without room for an export.

    Raises:
        OutputError: If it has none.
    """
    with writing(out):
        place = next(folder for folder in out.absolute().parents if folder.exists())
        free = shutil.disk_usage(place).free
    if free < weight_bytes + SPARE_BYTES:
        raise OutputError(
            f"an export of {weight_bytes / 1e6:.0f} MB needs as much free space, and the disk of "
            f"`{out.parent}` has {free / 1e6:.0f} MB; free some space or choose another place"
        )
