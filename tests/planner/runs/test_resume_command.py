"""The command that resumes a search or a comparison is what a user would type in a shell."""

import shlex
from pathlib import Path

from planner.cli.main import command_parser
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


def test_a_value_that_begins_with_a_dash_is_no_option() -> None:
    settings = SearchSettings(model="gpt2", data="-x")
    command = resume_command(settings, Path("-run"))
    assert command == "planner search gpt2 --data=-x --out=-run --resume"
    options = command_parser("search").options(shlex.split(command)[2:])
    assert (options.data, options.out) == ("-x", Path("-run"))


def test_a_comparison_is_resumed_with_its_recipes() -> None:
    settings = SearchSettings(model="gpt2", budget=Budget.parse("params<=0.8x"))
    command = resume_command(settings, Path("all"), ("uniform", "random"))
    words = shlex.split(command)
    assert words[:3] == ["planner", "compare", "gpt2"]
    assert command_parser("compare").options(words[2:]).recipes == "uniform,random"
