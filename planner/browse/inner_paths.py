"""Paths inside the folder that the page is of, and none that lead out of it."""

import os
from pathlib import Path, PurePosixPath

from search_spaces.atomic_files import LONGEST_NAME
from search_spaces.errors import InputError, OutputError, RunError, quoted


def run_folder(folder: Path, name: str) -> Path:
    """Return the folder of a run by its name, its path below the folder; ``.`` is the folder.

    Any name will do that a list of runs may offer, whatever its signs.

    Raises:
        RunError: If the name leads elsewhere.
    """
    return _inside(folder, name, RunError("a run"))


def new_folder(folder: Path, name: str) -> Path:
    """Return the path of a folder that is to be made.

    Raises:
        OutputError: If its name leads elsewhere, is odd or too long, or is taken.
    """
    path = _inside(folder, name, OutputError("an export"))
    for new in (each for each in (path, *path.parents) if not os.path.lexists(each)):
        _check_name(new.name)
    if path == folder or os.path.lexists(path):
        raise OutputError(
            f"an export must get a folder of its own, and {quoted(name)} is taken; choose another "
            "name"
        )
    return path


def _check_name(name: str) -> None:
    """Refuse a name that is no plain one, or that systems do not take.

    Raises:
        OutputError: If it is such.
    """
    if name.startswith("~") or "\\" in name or not name.isprintable():
        raise OutputError(
            f"an export must get a plain name, got {quoted(name)}; give one without `~`, "
            "backslashes and signs that cannot be seen"
        )
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise OutputError(
            f"an export must get a name of {LONGEST_NAME} bytes at most, got {quoted(name)}; "
            "choose a shorter one"
        )


def _inside(folder: Path, name: str, refusal: InputError) -> Path:
    """Return a path below a folder.

    Args:
        folder: That it must lie in.
        name: The path as somebody wrote it.
        refusal: An error of the kind to raise, that says what is to lie there.

    Raises:
        InputError: Of that kind, if the path leads out, or links on its way do.
    """
    parts = PurePosixPath(name).parts
    path = folder.joinpath(*parts)
    is_below = bool(name.strip()) and not any(part.startswith((".", "/")) for part in parts)
    if is_below and _is_path(name) and leads_in(folder, path):
        return path
    raise type(refusal)(
        f"{refusal} must lie inside `{folder}`, got {quoted(name)}; give a path below it without "
        "`..`, names that begin with a dot, and links that lead out"
    )


def _is_path(name: str) -> bool:
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:  # signs that no name of a file has
        return False


def leads_in(folder: Path, path: Path) -> bool:
    """Return whether a path leads into a folder, its links followed."""
    home, target = (Path(os.path.realpath(each)) for each in (folder, path))
    return target.is_relative_to(home)
