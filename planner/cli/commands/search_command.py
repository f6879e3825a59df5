"""``planner search``: a search of one model, which leaves a run with its front."""

import shlex
from argparse import Namespace
from pathlib import Path

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option, add_settings, given_settings


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    from planner.settings.search import SearchSettings

    parser.add_config()
    add_settings(parser, SearchSettings)
    add_option(parser, "out", Path, "Folder of the run.", group="output", required=True)
    add_option(parser, "resume", bool, "Go on with the run in --out.", group="output")


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
