"""What commands print as their result: text in colours on a terminal, plain elsewhere; or data."""

import json
import math
import shutil
import sys
from argparse import Namespace
from io import StringIO
from typing import TYPE_CHECKING, Any

from planner.cli.command_parser import CommandParser
from planner.cli.guard import Printed, printable
from search_spaces.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd
    from rich.text import Text


def terminal_width() -> int | None:
    """Return how wide a table may be: as the terminal; `None` if standard output is none."""
    is_terminal = isinstance(sys.stdout, Printed) and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if is_terminal else None


def show(text: "Text") -> None:
    """Print text, in its colours where standard output is a terminal; it says all without."""
    out = sys.stdout
    is_safe = text.plain == printable(text.plain)
    if not (isinstance(out, Printed) and out.isatty() and is_safe):
        print(text.plain)
        return
    from rich.console import Console

    painted = StringIO()
    console = Console(file=painted, force_terminal=True, highlight=False)
    console.print(text, soft_wrap=True)
    out.write_styled(painted.getvalue())


def add_formats(parser: CommandParser, json_help: str, csv_help: str) -> None:
    """Add the options that print data instead of text."""
    for name, help_text in (("json", json_help), ("csv", csv_help)):
        parser.group("format").add_argument(f"--{name}", action="store_true", help=help_text)


def wants_data(options: Namespace) -> bool:
    """Return whether data are asked for, and nothing else is to stand on standard output.

    Raises:
        SettingsError: If two formats are asked for at once.
    """
    if options.json and options.csv:
        raise SettingsError(
            "one format can be printed at a time, got `--json` and `--csv`; leave one of them out"
        )
    return bool(options.json or options.csv)


def print_frame(frame: "pd.DataFrame", options: Namespace) -> None:
    """Print a table as data: as a JSON list with an object a row, or as CSV with a header."""
    if options.csv:
        print(frame.to_csv(index=False), end="")
    else:
        print_json(records(frame))


def print_json(value: object) -> None:
    """Print a value as JSON, in which what is no number is null."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    # signs without a shape as JSON has them, or they are written as Python does on their way out
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows of a table as JSON holds them."""
    rows = frame.to_dict(orient="records")
    return [{str(name): _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers of Python's own, times as text, null for no value."""
    if hasattr(value, "isoformat"):
        return None if str(value) == "NaT" else value.isoformat()
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number
