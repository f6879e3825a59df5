"""``planner search``: a search of one model, which leaves a run with its front."""

import shlex
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option, add_settings, given_settings

if TYPE_CHECKING:
    from planner.settings.search import SearchSettings


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    from planner.settings.search import SearchSettings

    parser.add_config()
    add_settings(parser, SearchSettings)
    add_option(parser, "out", Path, "Folder of the run.", group="output", required=True)
    add_option(parser, "resume", bool, "Go on with the run in --out.", group="output")
    dry = "Prepare, say how long the search would take and how --workers would share it, and stop."
    add_option(parser, "dry_run", bool, dry, group="output")


def run(options: Namespace) -> None:
    """Search a model, and print the front."""
    from planner.settings.search import SearchSettings

    settings = SearchSettings.checked(**given_settings(options, SearchSettings))

    from planner.cli.commands.front_command import print_front
    from planner.cli.terminal import Terminal
    from planner.reports.plots import draw_front
    from planner.reports.sentences import restriction_sentence
    from planner.run import Run
    from planner.runs.folder import FRONT_PICTURE
    from planner.searching.search_model import run_search

    if options.dry_run:
        _print_dry_run(settings, options)
        return
    with Terminal() as terminal:
        run_search(settings, options.out, resume=options.resume, progress=terminal)
    finished_run = Run.open(options.out)
    draw_front(finished_run, finished_run.folder / FRONT_PICTURE)
    print_front(finished_run, settings.budget)
    if restriction := restriction_sentence(finished_run):
        print(f"\n{restriction}")
    folder = finished_run.folder
    print(f"\nrun: {folder} (front.csv, {FRONT_PICTURE})")
    print(f"look at it: {shlex.join(['planner', 'browse', str(folder)])}")


def _print_dry_run(settings: "SearchSettings", options: Namespace) -> None:
    """Print what a search would take, and leave nothing of it.

    Raises:
        SettingsError: If a run is to be resumed, or a pipeline is asked for.
    """
    from planner.cli.terminal import Terminal
    from planner.searching.dry_run import dry_run
    from search_spaces.errors import SettingsError

    if options.resume:
        raise SettingsError(
            "`--dry_run` must be given for a new run, got `--resume`; leave one of them out"
        )
    if settings.pipeline:
        raise SettingsError(
            "`--dry_run` is of workers that hold the whole model, got `--pipeline`; leave one of "
            "them out"
        )
    with Terminal() as terminal:
        sentences = list(dry_run(settings, options.out, progress=terminal))
    print(*sentences, sep="\n")
