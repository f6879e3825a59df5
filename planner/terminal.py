"""Progress on a terminal: one line a stage, a bar with an ETA inside it."""

import sys
import time
from types import TracebackType
from typing import NoReturn, Self

from tqdm import tqdm


class Terminal:
    """Listens to long work and shows it on standard error."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None
        self._title = ""
        self._started = time.monotonic()

    def stage(self, title: str) -> None:
        self._close()
        self._title = title
        self._started = time.monotonic()
        self.say(f"{title} …")

    def advance(self, done: int, total: int, note: str = "") -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=total,
                desc=self._title,
                file=sys.stderr,
                dynamic_ncols=True,
                # every ten seconds where nobody watches, so that a log file stays readable
                mininterval=0.5 if sys.stderr.isatty() else 10,
            )
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def say(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)

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
