"""Progress on a terminal: for each stage a bar, its time and a note; log records above them.

In a file, which is no terminal, the same are lines: one a stage, and one in ten seconds inside it.
"""

import logging
import time
from functools import cache
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from planner.cli.guard import printable

_PACKAGES = ("planner", "evaluators", "search_spaces")
_BAR_WIDTH = 32
_REFRESHES = 2
"""A second: enough for a clock, and too few to be noticed by what is waited for."""
_LINE_SECONDS = 10.0
"""Between two lines in a file, which thus stays readable."""


@cache
def error_console() -> Console:
    """Return what writes to standard error, whatever that is at the time."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


class Terminal:
    """Progress of long work, shown on standard error."""

    def __init__(self) -> None:
        self._console = error_console()
        self._live: Live | None = None
        self._title = self._note = ""
        self._done = self._total = 0
        self._started = self._last_line = time.monotonic()
        self._is_told = True
        """Whether a file holds all that is known of the stage."""

    def stage(self, title: str) -> None:
        self._close()
        self._title, self._note, self._done, self._total = title, "", 0, 0
        self._started = self._last_line = time.monotonic()
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            self._write(f"{title} …")
            return
        self._live = Live(
            get_renderable=self._picture,
            console=self._console,
            refresh_per_second=_REFRESHES,
            redirect_stdout=False,  # which is written at the end, see `guarded`
            redirect_stderr=False,
        )
        self._live.start()
        self._console.show_cursor()  # or it stays hidden after a kill

    def advance(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        self._tell()

    def note(self, text: str) -> None:
        self._note = text
        self._tell()

    def _tell(self) -> None:
        """Write what is known into a file, if that is due; a terminal asks for it by itself."""
        self._is_told = self._live is not None
        if not self._is_told and time.monotonic() - self._last_line >= _LINE_SECONDS:
            self._write_line()

    def _write_line(self) -> None:
        share = f"{self._done / self._total:.0%}" if self._total else ""
        self._write(f"{self._title}: {' · '.join(filter(None, [share, self._note]))}")
        self._last_line, self._is_told = time.monotonic(), True

    def _write(self, line: str) -> None:
        self._console.print(Text(printable(line)), soft_wrap=True)

    def _picture(self) -> Group:
        """Return the stage as a terminal shows it now."""
        seconds = time.monotonic() - self._started
        row = Table.grid(padding=(0, 1))
        title, clock = Text(printable(self._title), style="bold"), _clock(seconds)
        if self._total:
            bar = ProgressBar(self._total, min(self._done, self._total), width=_BAR_WIDTH)
            if 0 < self._done < self._total and not self._note:
                clock += f", {_clock(seconds / self._done * (self._total - self._done))} left"
            row.add_row(title, bar, f"{self._done / self._total:4.0%}", clock)
        else:
            row.add_row(title, clock)
        return Group(row, Text(f"  {printable(self._note)}")) if self._note else Group(row)

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif not self._is_told:
            self._write_line()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()


def _clock(seconds: float) -> str:
    """Return a time as a clock shows it.

    >>> _clock(133.4), _clock(3600)
    ('2:13', '1:00:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _AboveTheBar(logging.Handler):
    """Handler that writes records to standard error without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        error_console().print(Text(printable(self.format(record))), soft_wrap=True)


class _Formatter(logging.Formatter):
    """Formatter that puts level and name before the records of libraries, and of no others."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        is_own = record.name.partition(".")[0] in _PACKAGES
        return text if is_own else f"{record.levelname} {record.name}: {text}"


def show_notices() -> None:
    """Show what these packages log, and warnings of libraries, on standard error."""
    root = logging.getLogger()
    if not any(isinstance(handler, _AboveTheBar) for handler in root.handlers):
        handler = _AboveTheBar()
        handler.setFormatter(_Formatter())
        root.addHandler(handler)
    for name in _PACKAGES:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in ("accelerate", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
