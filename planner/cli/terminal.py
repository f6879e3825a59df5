"""Progress on a terminal: a line for each stage, a bar with an ETA in it, log records above it."""

import logging
import sys
import time
from types import TracebackType
from typing import NoReturn, Self

from tqdm import tqdm

_PACKAGES = ("planner", "evaluators", "search_spaces")


class Terminal:
    """Progress of long work, shown on standard error."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None
        self._title = ""
        self._started = time.monotonic()

    def stage(self, title: str) -> None:
        self._close()
        self._title = title
        self._started = time.monotonic()
        tqdm.write(f"{title} …", file=sys.stderr)

    def advance(self, done: int, total: int, note: str = "") -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=total,
                desc=self._title,
                file=sys.stderr,
                dynamic_ncols=True,
                # every ten seconds if it goes to a file, which thus stays readable
                mininterval=0.5 if sys.stderr.isatty() else 10,
            )
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()


class _AboveTheBar(logging.Handler):
    """Handler that writes records to standard error without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


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
