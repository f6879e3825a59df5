"""The command line: ``planner COMMAND``, with the commands below.

Each command is a module with ``add_arguments(parser)`` and ``run(options)``. Arguments are added
only for the command that is asked for, and heavy modules imported only when it runs, so that
``planner --help`` answers at once. What this module imports itself is little, for a signal that
comes before `guarded` begins ends in a traceback.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from planner.cli.guard import guarded

if TYPE_CHECKING:
    from argparse import Namespace

    from planner.cli.command_parser import CommandParser, PlannerParser

COMMANDS = {
    "inspect": "show what is in a model, what can be pruned and what it costs",
    "search": "search a model and leave a run with its Pareto front",
    "compare": "search by several recipes under one budget, and report which is best",
    "runs": "list the runs in a folder, how far each has come, and its best answer",
    "front": "show the front of a run, and the best plan within a budget",
    "show": "show one plan of a run: its costs, its scores, and what it keeps of each layer",
    "report": "write a run as one page that opens anywhere, or its front as a picture",
    "browse": "look at the runs of a folder in the browser, and export from there",
    "export": "write a plan as a HuggingFace folder and prove it",
    "export-study": "write a run as a study of Optuna, for its plots and its dashboard",
    "recover": "fit a plan's weights to the dense model, layer by layer",
    "heal": "train a plan, a front or an export to predict as the dense model does",
    "evaluate": "measure a model beside the dense one, on text and on tasks",
    "to-moe": "make a dense model a mixture of experts, without training",
    "demo": "search, compare and export SmolLM2-135M in a few minutes",
}
_REMEDIES = {
    "search": "go on with --resume",
    "compare": "go on with --resume",
    "heal": "go on with the same command",
}
"""What to do after a command was interrupted."""
_DEBUG = "--debug"


class Command(Protocol):
    """What the module of a command holds."""

    def add_arguments(self, parser: "CommandParser") -> None:
        """Add the command's arguments to its parser."""

    def run(self, options: "Namespace") -> None:
        """Run the command with the options that were parsed."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words of the command line; by default those of the process.

    Returns:
        Exit status: 0, 1 for a defect of the planner, 2 for a mistake of the user.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    shows_traceback = _DEBUG in words[:end]
    words = [word for word in words[:end] if word != _DEBUG] + words[end:]
    remedy = _REMEDIES.get(words[0] if words else "", "")
    return guarded(lambda: _run(words), remedy=remedy, shows_traceback=shows_traceback)


def _run(words: list[str]) -> int:
    if not words or words[0].startswith("-"):
        parser = _parser()
        parser.parse_args(words)
        parser.print_help()
        return 2
    from planner.cli.spellings import current_command

    command = current_command(words[0], COMMANDS)
    options = command_parser(command).options(words[1:])
    _check_surroundings()
    _quieten()
    _run_command(command, options)
    return 0


def _run_command(name: str, options: "Namespace") -> None:
    """Run a command to its own end.

    Raises:
        ModelError: If code that comes with a model ends the process: nothing of ours does.
    """
    try:
        load_command(name).run(options)
    except SystemExit as error:
        from search_spaces.errors import ModelError

        raise ModelError(
            "the code of a model must leave the process alone, and some ended it with status "
            f"{error.code!r}; read and mend it, or leave `--trust_remote_code` out"
        ) from error


def _check_surroundings() -> None:
    """Refuse what libraries fail over without a word: no folder to run in, or no docstrings.

    Raises:
        SettingsError: If it is so.
    """
    from search_spaces.errors import SettingsError

    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise SettingsError(
            "a command must run in a folder that exists, got one that was removed; change to "
            "another"
        ) from error
    if sys.flags.optimize > 1:
        raise SettingsError(
            "Python must keep docstrings, which transformers reads, got `-OO`; run it without, "
            "and unset `PYTHONOPTIMIZE`"
        )


def load_command(name: str) -> Command:
    """Import the module of a command."""
    return cast("Command", import_module(f"planner.cli.commands.{name.replace('-', '_')}_command"))


def command_parser(name: str) -> "CommandParser":
    """Build the parser of a command."""
    from planner.cli.command_parser import CommandParser

    parser = CommandParser(name, f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.")
    load_command(name).add_arguments(parser)
    parser.usage = _usage(name, parser)
    return parser


def _parser() -> "PlannerParser":
    """Build the parser of what stands in the place of a command."""
    from importlib.metadata import version

    from planner.cli.command_parser import PlannerParser

    width = max(map(len, COMMANDS))
    listed = "\n".join(f"{name:{width}}  {text}" for name, text in COMMANDS.items())
    parser = PlannerParser(
        prog="planner",
        usage="planner [--debug] COMMAND [options]",
        description="Find the best ways to make a transformer smaller, and export one.",
    )
    text = f"%(prog)s {version('compression-planner')}"
    parser.add_argument("--version", action="version", version=text)
    help_text = "Show the traceback of what ends a command; it may stand anywhere."
    parser.add_argument(_DEBUG, action="store_true", help=help_text)
    parser.add_argument_group("commands", description=listed)
    return parser


def _usage(name: str, parser: "CommandParser") -> str:
    """Return what must be given to a command: positional arguments and required options."""
    words = [f"planner {name} [options]"]
    for action in parser._actions:
        if not action.option_strings:
            name = action.dest.upper()
            words.append(f"[{name}]" if action.nargs == "?" else name)
        elif action.required:
            words.append(f"{action.option_strings[-1]} {action.metavar}")
    return " ".join(words)


def _quieten() -> None:
    """Silence logging and progress bars of transformers and its dependencies."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from planner.cli.terminal import show_notices

    show_notices()
