"""``planner report``: a run as one page that opens anywhere, or its front as a picture."""

from argparse import Namespace
from pathlib import Path

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    from planner.reports.run_report.report_file import ReportFormat

    parser.declare("run", Path)
    parser.add_argument("run", help="Folder of the run.")
    help_text = (
        "File to write, over an earlier report at most; by default report.html, or front.FORMAT, "
        "in the run's folder."
    )
    add_option(parser, "out", Path, help_text, group="output")
    help_text = (
        "html for a page with all of it, png, svg or pdf for the front alone; by default as --out "
        "ends, and else html."
    )
    add_option(parser, "format", ReportFormat, help_text, group="output")


def run(options: Namespace) -> None:
    """Write the report of a run."""
    from planner.reports.run_report.report_file import write_report
    from planner.run import Run

    opened_run = Run.open(options.run, live=False)
    print(f"report: {write_report(opened_run, options.out, options.format)}")
