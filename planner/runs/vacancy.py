"""Whether a folder is free for a run, or holds one."""

import os
from pathlib import Path

from planner.runs.folder import (
    CALIBRATION_FILE,
    DATABASE_FILE,
    FRONT_FILE,
    ORDER_FILE,
    SETTINGS_FILE,
    SPACE_FILE,
    is_leftover,
)
from planner.runs.store import Store
from planner.settings.search import SearchSettings
from search_spaces.atomic_files import writing
from search_spaces.errors import RunError, SettingsError

_MOST_BYTES = 440
"""Of a run's path: SQLite opens none above 512, names of a recipe and a journal included."""


def check_length(folder: Path) -> None:
    """Refuse a path of which SQLite would open no file, before a folder is made.

    Raises:
        RunError: If it is one.
    """
    length = len(os.fsencode(folder.absolute()))
    if length > _MOST_BYTES:
        raise RunError(
            f"the path of a run must be at most {_MOST_BYTES} bytes long, for its database, got "
            f"{length} from the root on; choose a shorter --out"
        )


def check_free(folder: Path) -> None:
    """Refuse a folder that holds more than what a process that died at once may leave.

    Raises:
        RunError: If it does.
    """
    with writing(folder):
        contents = [path for path in folder.iterdir() if not is_leftover(path)]
    if folder / SETTINGS_FILE in contents:
        raise RunError(
            f"`{folder}` must not hold a run already, got one; "
            "go on with it through --resume or choose another --out"
        )
    if contents:
        raise RunError(
            f"`{folder}` must be new or empty, got {contents[0].name!r} in it; "
            "choose another --out"
        )


def holds_nothing(folder: Path) -> bool:
    """Return whether no run was begun in a folder, though one may have been killed before it.

    A missing one is no such folder: its name may be a mistake.
    """
    with writing(folder):
        return folder.is_dir() and all(map(is_leftover, folder.iterdir()))


def check_not_lost(folder: Path) -> None:
    """Refuse to begin a run again whose database is gone.

    Raises:
        RunError: If it is.
    """
    later = (CALIBRATION_FILE, ORDER_FILE, SPACE_FILE, FRONT_FILE)  # than the database
    left = [name for name in later if (folder / name).exists()]
    if left and Store.is_lost(folder / DATABASE_FILE):
        raise RunError(
            f"`{folder / DATABASE_FILE}` must hold what was scored, and it is missing or empty "
            f"beside {left[0]}; restore it, or search into another --out"
        )


def saved_settings(folder: Path) -> SearchSettings:
    """Return the settings of the run in a folder.

    Raises:
        RunError: If there is no run, or none that this version can read.
    """
    if not folder.exists():
        raise RunError(
            f"`{folder}` must be the folder of a run, and it does not exist; give the --out of a "
            "search, or leave --resume out to begin one"
        )
    if not (folder / SETTINGS_FILE).is_file():
        raise RunError(
            f"`{folder}` must be the folder of a run, got no {SETTINGS_FILE} in it; "
            "give the --out of a search"
        )
    try:
        return SearchSettings.load(folder)
    except SettingsError as error:
        raise RunError(str(error)) from error  # it names the file
