"""The commands that begin and resume a search or a comparison, as a user would type them."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from planner.settings.search import SearchSettings


def resume_command(settings: SearchSettings, folder: Path, recipes: Sequence[str] = ()) -> str:
    """Return the shell command that resumes a run with the settings it has; see `begin_command`.

    >>> resume_command(SearchSettings(model="gpt2"), Path("runs/a"))
    'planner search gpt2 --out runs/a --resume'
    """
    return f"{begin_command(settings, folder, recipes)} --resume"


def begin_command(settings: SearchSettings, folder: Path, recipes: Sequence[str] = ()) -> str:
    """Return the shell command that makes a run with these settings.

    Args:
        settings: Of the run.
        folder: Of the run.
        recipes: Of a comparison; none: it is a search.

    >>> settings = SearchSettings(model="gpt2", budget="params<=0.8x", trust_remote_code=True)
    >>> begin_command(settings, Path("runs/a b"))
    "planner search gpt2 --budget 'params<=0.8x' --trust_remote_code --out 'runs/a b'"
    """
    defaults = SearchSettings(model=settings.model).model_dump()
    words = ["planner", "compare" if recipes else "search", settings.model]
    for name, value in settings.model_dump().items():
        if value != defaults[name]:
            words += [f"--{name}"] if value is True else _option(name, str(value))
    words += _option("recipes", ",".join(recipes)) if recipes else []
    return shlex.join([*words, *_option("out", str(folder))])


def _option(name: str, value: str) -> list[str]:
    """Return an option's words: one, if its value could be taken for another option."""
    return [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]
