"""``planner to-moe``: a dense model as a mixture of experts, without training."""

from argparse import Namespace
from pathlib import Path

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option, add_settings, given_settings


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    from planner.settings.to_moe import ToMoeSettings

    parser.add_config()
    add_settings(parser, ToMoeSettings)
    add_option(parser, "out", Path, "Folder to write.", group="output", required=True)


def run(options: Namespace) -> None:
    """Convert a model, and print its card."""
    from planner.settings.to_moe import ToMoeSettings

    settings = ToMoeSettings.checked(**given_settings(options, ToMoeSettings))

    from planner.cli.commands.export_command import print_card
    from planner.cli.terminal import Terminal
    from planner.to_moe.convert import convert_to_moe

    with Terminal() as terminal:
        folder = convert_to_moe(settings, options.out, progress=terminal)
    print_card(folder)
    print(f"\nmixture of experts: {folder}")
