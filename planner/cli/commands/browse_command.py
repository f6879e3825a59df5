"""``planner browse``: the runs of a folder as a page in the browser."""

import sys
from argparse import Namespace
from pathlib import Path

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    parser.declare("folder", Path)
    parser.add_argument("folder", help="Folder of runs, or one run.")
    place, group = "place", "page"
    add_option(parser, "port", int, "Port of the page.", group=place, default=8050)
    help_text = (
        "Address to serve the page on; any but this machine's own demands a token of visitors."
    )
    add_option(parser, "host", str, help_text, group=place, default="127.0.0.1")
    help_text = "What visitors must know; made here where it is needed and not given."
    add_option(parser, "token", str, help_text, group=place)
    help_text = "Do not open the page in the browser of this desktop."
    add_option(parser, "no_browser", bool, help_text, group=group)


def run(options: Namespace) -> None:
    """Serve the page until Ctrl-C."""
    from planner.browse.server import Place, serve

    place = Place(host=options.host, port=options.port, token=options.token)
    serve(options.folder, place, _tell, opens=not options.no_browser)


def _tell(address: str) -> None:
    """Say where the page is at once: standard output waits for the end of a command."""
    print(f"{address}  (Ctrl-C ends it)", file=sys.stderr, flush=True)
