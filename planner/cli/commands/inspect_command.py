"""``planner inspect``: what is in a model, what can be pruned and what it costs."""

from argparse import Namespace

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_settings, given_settings

_OPTIONS = (
    "space",
    "loads_in",
    "mlp_step",
    "window_tokens",
    "dtype",
    "device",
    "offload",
    "trust_remote_code",
)


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    from planner.settings.search import SearchSettings

    add_settings(parser, SearchSettings, only=_OPTIONS)


def run(options: Namespace) -> None:
    """Print the report on a model."""
    from planner.settings.search import SearchSettings

    settings = SearchSettings.checked(**given_settings(options, SearchSettings))

    from planner.cli.terminal import Terminal
    from planner.reports.inspect import inspect_model

    with Terminal() as terminal:
        text = inspect_model(settings, terminal)
    print(text)
