"""The command that resumes a search, as a user would type it."""

import shlex
from pathlib import Path

from planner.settings.search import SearchSettings


def resume_command(settings: SearchSettings, folder: Path) -> str:
    """Return the shell command that resumes a run with the settings it has.

    >>> settings = SearchSettings(model="gpt2", budget="params<=0.8x", trust_remote_code=True)
    >>> resume_command(settings, Path("runs/a b"))
    "planner search gpt2 --budget 'params<=0.8x' --trust_remote_code --out 'runs/a b' --resume"
    """
    defaults = SearchSettings(model=settings.model).model_dump()
    words = ["planner", "search", settings.model]
    for name, value in settings.model_dump().items():
        if value != defaults[name]:
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join([*words, "--out", str(folder), "--resume"])
