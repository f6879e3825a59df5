"""``planner export``: a plan as a HuggingFace folder, reloaded and proved."""

from argparse import Namespace
from pathlib import Path

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option, add_settings

_SETTINGS = ("verify", "trust_remote_code")


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    from planner.settings.search import SearchSettings

    parser.declare("source", str)
    parser.add_argument("source", help="Folder of the run; or the dense model, with --plan FILE.")
    add_option(parser, "plan", str, "Id of a plan of the run, or a plan.json.", group="plan")
    add_option(parser, "budget", str, "Take the best plan of the run within it.", group="plan")
    add_settings(parser, SearchSettings, only=_SETTINGS, without=("model",))
    add_option(parser, "out", Path, "Folder to write.", group="output", required=True)


def run(options: Namespace) -> None:
    """Export a plan, and print its card."""
    from planner.cli.terminal import Terminal
    from planner.export.choose import export_chosen
    from planner.settings.search import SearchSettings

    given = {name: getattr(options, name) for name in _SETTINGS}
    settings = SearchSettings.checked(model=options.source, **given)
    with Terminal() as terminal:
        folder = export_chosen(
            options.source,
            plan=options.plan,
            budget=options.budget,
            out=options.out,
            trust_remote_code=settings.trust_remote_code,
            verify=settings.verify,
            progress=terminal,
        )
    print_card(folder)
    print(f"\nexported: {folder}")


def print_card(folder: Path) -> None:
    """Print the model card of an exported folder, without its front matter and its code."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    print(card[card.index("\n# ") : card.index("\n```")].strip())
