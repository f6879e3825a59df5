"""The command that resumes a search is what a user would type in a shell."""

import shlex
from pathlib import Path

from planner.runs.resume_command import resume_command
from planner.settings.budget import Budget
from planner.settings.search import SearchSettings


def test_it_names_what_differs_from_the_defaults_and_quotes_it() -> None:
    settings = SearchSettings(
        model="my models/llama",
        budget=Budget.parse("params<=0.8x"),
        tokens=500,
        trust_remote_code=True,
    )
    command = resume_command(settings, Path("runs/a b"))
    assert command == (
        "planner search 'my models/llama' --budget 'params<=0.8x' --tokens 500 "
        "--trust_remote_code --out 'runs/a b' --resume"
    )
    assert shlex.split(command)[2] == "my models/llama"


def test_defaults_need_no_option() -> None:
    command = resume_command(SearchSettings(model="gpt2"), Path("run"))
    assert command == "planner search gpt2 --out run --resume"
