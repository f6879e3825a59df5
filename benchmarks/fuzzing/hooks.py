"""Ends the process at an exact moment: before or after its n-th step of a kind."""

import importlib
import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal

_CALLS = {
    "replace": ("replace", "rename"),
    "unlink": ("unlink", "remove"),
    "mkdir": ("mkdir",),
    "rmdir": ("rmdir",),
    "fsync": ("fsync",),
}
"""Functions of `os` by step."""


def install(*, step: str, count: int, delay: float, number: int) -> None:
    """Watch for the steps of a kind.

    Args:
        step: One of `os`, such as ``replace``, a ``commit`` of SQLite, or a ``stage`` that is
            shown; each with ``after-`` in front of its name if it is to be done.
        count: Which of them, from 1.
        delay: Seconds to wait then.
        number: Of the signal.
    """
    when, _, name = step.rpartition("-")
    trigger = _Trigger(count, delay, number, is_after=when == "after")
    if name == "commit":
        _watch_commits(trigger)
    elif name == "stage":
        terminal = importlib.import_module("planner.cli.terminal").Terminal
        terminal.stage = trigger.around(terminal.stage)
    else:
        for function in _CALLS[name]:
            setattr(os, function, trigger.around(getattr(os, function)))


class _Trigger:
    def __init__(self, count: int, delay: float, number: int, *, is_after: bool) -> None:
        self._left, self._delay, self._number, self._is_after = count, delay, number, is_after

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same, but for the end."""

        def called(*arguments: Any, **options: Any) -> Any:
            self._left -= 1
            strikes = self._left == 0
            if strikes and not self._is_after:
                self._strike()
            result = function(*arguments, **options)
            if strikes and self._is_after:
                self._strike()
            return result

        return called

    def _strike(self) -> None:
        if self._delay:
            timer = threading.Timer(self._delay, os.kill, (os.getpid(), self._number))
            timer.daemon = True
            timer.start()
        else:
            signal.raise_signal(signal.Signals(self._number))


def _watch_commits(trigger: _Trigger) -> None:
    class Watched(sqlite3.Connection):
        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
            /,
        ) -> Literal[False]:
            trigger.around(super().__exit__)(kind, error, trace)
            return False

    connect = sqlite3.connect

    def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **{"factory": Watched, **options})
        return connection

    sqlite3.connect = watched  # type: ignore[assignment]
