"""``planner export-study``: a run as a study of Optuna."""

from argparse import Namespace
from pathlib import Path

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    parser.declare("run", Path)
    parser.add_argument("run", help="Folder of the run.")
    parser.declare("url", str)
    help_text = (
        "Where to write: a database such as sqlite:///study.db, or a file such as study.log."
    )
    parser.add_argument("url", help=help_text)
    help_text = "Name of the study; by default that of the run's folder."
    add_option(parser, "name", str, help_text, group="output")


def run(options: Namespace) -> None:
    """Write the study, and print how it is looked at."""
    from planner.cli.terminal import Terminal
    from planner.reports.studies.export_study import export_study
    from planner.reports.studies.study_place import told
    from planner.run import Run

    with Terminal() as terminal:
        opened = Run.open(options.run, live=False)
        name = export_study(opened, options.url, options.name, terminal)
    print(f"written: study {name}; look at it with `optuna-dashboard {told(options.url)}`")
