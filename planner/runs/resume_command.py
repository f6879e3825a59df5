"""The command that resumes a search or a comparison, as a user would type it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from planner.settings.search import SearchSettings


def resume_command(settings: SearchSettings, folder: Path, recipes: Sequence[str] = ()) -> str:
    """Return the shell command that resumes a run with the settings it has.

    Args:
        settings: Of the run.
        folder: Of the run.
        recipes: Of a comparison; none: it is a search.

    >>> settings = SearchSettings(model="gpt2", budget="params<=0.8x", trust_remote_code=True)
    >>> resume_command(settings, Path("runs/a b"))
    "planner search gpt2 --budget 'params<=0.8x' --trust_remote_code --out 'runs/a b' --resume"
    """
    defaults = SearchSettings(model=settings.model).model_dump()
    words = ["planner", "compare" if recipes else "search", settings.model]
    for name, value in settings.model_dump().items():
        if value != defaults[name]:
            words += [f"--{name}"] if value is True else _option(name, str(value))
    words += _option("recipes", ",".join(recipes)) if recipes else []
    return shlex.join([*words, *_option("out", str(folder)), "--resume"])


def _option(name: str, value: str) -> list[str]:
    """Return an option's words: one, if its value could be taken for another option."""
    return [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]
