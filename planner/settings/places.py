"""Names of files and folders in settings, and whether two of them are the same."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.paths import existing_path

if TYPE_CHECKING:
    from planner.settings.search import SearchSettings

_MODELS = ("model", "pretrained_router")
PATHS = (*_MODELS, "data", "holdout")
"""Settings that may name a file or a folder here."""


def located(settings: "SearchSettings") -> "SearchSettings":
    """Return settings that name the same model from any working directory.

    Names of text stay as they were typed: a run keeps the tokens that it drew.
    """
    update = {
        name: _absolute(value)
        for name in _MODELS
        if (value := getattr(settings, name)) and _is_here(value)
    }
    if "model" in update:  # which a link at its end may come to lead away from
        update["model"] = str(Path(update["model"]).resolve())
    return settings.model_copy(update=update)


def is_same_place(first: str | None, second: str | None) -> bool:
    """Return whether two names are of one file or folder, or the same name of none."""
    return first == second or bool(first and second and _absolute(first) == _absolute(second))


def _is_here(name: str) -> bool:
    try:
        return existing_path(name).exists()
    except (OSError, ValueError):  # what may not be looked at is refused where it is read
        return False


def _absolute(name: str) -> str:
    """Return a path from the root, without links but for one at its end."""
    path = Path(os.path.abspath(existing_path(name)))  # noqa: PTH100  (follows no link at the end)
    return str(path.parent.resolve() / path.name)
