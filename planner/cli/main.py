"""The command line: ``planner inspect | search | compare | front | export | to-moe | demo``.

Each command is a module with ``add_arguments(parser)`` and ``run(options)``. Arguments are added
only for the command that is asked for, and heavy modules imported only when it runs, so that
``planner --help`` answers at once.
"""

import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Protocol, cast

from jsonargparse import Namespace

from planner.cli.command_parser import CommandParser, PlannerParser
from planner.cli.spellings import current_command
from search_spaces.errors import InputError, PlannerError

COMMANDS = {
    "inspect": "show what is in a model, what can be pruned and what it costs",
    "search": "search a model and leave a run with its Pareto front",
    "compare": "search by several recipes under one budget, and report which is best",
    "front": "show the front of a run, and the best plan within a budget",
    "export": "write a plan as a HuggingFace folder and prove it",
    "to-moe": "make a dense model a mixture of experts, without training",
    "demo": "search, compare and export SmolLM2-135M in a few minutes",
}
_RESUMABLE = ("search", "compare")


class Command(Protocol):
    """What the module of a command holds."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments to its parser."""

    def run(self, options: Namespace) -> None:
        """Run the command with the options that were parsed."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words of the command line; by default those of the process.

    Returns:
        Exit status: 0, 1 for a defect of the planner, 2 for a mistake of the user.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = None
    try:
        command = _named_command(words)
        parser = _parser(command)
        options = parser.parse_args(words)
        if command is None:
            parser.print_help()
            return 2
        _quieten()
        load_command(command).run(options[command])
    except PlannerError as error:
        print(f"planner: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        remedy = "; go on with --resume" if command in _RESUMABLE else ""
        print(f"planner: stopped{remedy}", file=sys.stderr)
        return 130
    return 0


def load_command(name: str) -> Command:
    """Import the module of a command."""
    return cast("Command", import_module(f"planner.cli.{name.replace('-', '_')}_command"))


def command_parser(name: str, *, with_arguments: bool = True) -> CommandParser:
    """Build the parser of a command."""
    parser = CommandParser(name, description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.")
    if with_arguments:
        load_command(name).add_arguments(parser)
        parser.usage = _usage(name, parser)
    return parser


def _named_command(words: list[str]) -> str | None:
    """Find the command among the words, and put its current name there.

    Raises:
        SettingsError: If there is no such command.
    """
    for position, word in enumerate(words):
        if not word.startswith("-"):
            words[position] = current_command(word, COMMANDS)
            return words[position]
    return None


def _parser(command: str | None) -> PlannerParser:
    parser = PlannerParser(
        command,
        prog="planner",
        description="Find the best ways to make a transformer smaller, and export one.",
    )
    text = f"%(prog)s {version('compression-planner')}"
    parser.add_argument("--version", action="version", version=text)
    subcommands = parser.add_subcommands(required=False, dest="command", title="commands")
    for name, help_text in COMMANDS.items():
        own_parser = command_parser(name, with_arguments=name == command)
        subcommands.add_subcommand(name, own_parser, help=help_text)
    return parser


def _usage(name: str, parser: CommandParser) -> str:
    """Return what must be given to a command: positional arguments and required options."""
    words = [f"planner {name} [options]"]
    for action in parser._actions:
        if not action.option_strings:
            words.append(action.dest.upper())
        elif action.required:
            words.append(f"{action.option_strings[-1]} {action.metavar}")
    return " ".join(words)


def _quieten() -> None:
    """Silence logging and progress bars of transformers and its dependencies."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from planner.cli.terminal import show_notices

    show_notices()
