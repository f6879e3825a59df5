"""Paths inside the folder that the page is of, and none that lead out of it."""

import os
from pathlib import Path, PurePosixPath

from search_spaces.errors import InputError, OutputError, RunError, quoted


def run_folder(folder: Path, name: str) -> Path:
    """Return the folder of a run by its name, its path below the folder; ``.`` is the folder.

    Raises:
        RunError: If the name leads elsewhere.
    """
    return _inside(folder, name, RunError("a run"))


def new_folder(folder: Path, name: str) -> Path:
    """Return the path of a folder that is to be made.

    Raises:
        OutputError: If its name leads elsewhere, or is taken.
    """
    path = _inside(folder, name, OutputError("an export"))
    if path == folder or path.is_symlink() or path.exists():
        raise OutputError(
            f"an export must get a folder of its own, and {quoted(name)} is taken; choose another "
            "name"
        )
    return path


def _inside(folder: Path, name: str, refusal: InputError) -> Path:
    """Return a path below a folder.

    Args:
        folder: That it must lie in.
        name: The path as somebody wrote it.
        refusal: An error of the kind to raise, that says what is to lie there.

    Raises:
        InputError: Of that kind, if the path is not plain, or links on its way lead elsewhere.
    """
    parts = PurePosixPath(name).parts
    is_plain = bool(name.strip()) and name.isprintable() and "\\" not in name
    is_plain = is_plain and not any(part.startswith((".", "/", "~")) for part in parts)
    path = folder.joinpath(*parts)
    if is_plain and leads_in(folder, path):
        return path
    raise type(refusal)(
        f"{refusal} must lie inside `{folder}`, under a plain path, got {quoted(name)}; give one "
        "without `..` and without links that lead out"
    )


def leads_in(folder: Path, path: Path) -> bool:
    """Return whether a path leads into a folder, its links followed."""
    home, target = (Path(os.path.realpath(each)) for each in (folder, path))
    return target.is_relative_to(home)
