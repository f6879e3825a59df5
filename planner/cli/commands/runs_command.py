"""``planner runs``: what is in a folder of runs, its state and its best answers."""

import logging
from argparse import Namespace
from pathlib import Path

from planner.cli.command_parser import CommandParser

logger = logging.getLogger(__name__)


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    from planner.cli.printing import add_formats

    parser.declare("folder", Path)
    parser.add_argument("folder", help="Folder that runs and comparisons are in.")
    columns = "path, state, phase, updated_at, model, budget, evaluations, recipes, answer, fault."
    add_formats(
        parser,
        f"Print a JSON list with an object a run: {columns}",
        "Print the same as CSV, a row a run.",
    )


def run(options: Namespace) -> None:
    """Print what is in a folder of runs."""
    from planner.cli.printing import print_frame, show, wants_data
    from planner.reports.run_list_text import run_list_frame, run_list_text
    from planner.results.run_list import list_runs

    is_data = wants_data(options)
    entries = list_runs(options.folder)
    if is_data:
        print_frame(run_list_frame(entries), options)
        if not entries:
            logger.info("no runs in %s", options.folder)
    else:
        show(run_list_text(options.folder, entries))
