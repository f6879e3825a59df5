"""Searches that are disturbed while they score, and all that they measured."""

import os
import re
import signal
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from planner import Run
from planner.workers import backends
from tests.progress import RecordedProgress
from tests.settings import SMALL

RACED: dict[str, Any] = {**SMALL, "search_windows": 16, "window_tokens": 8, "evaluations": 24}


class Disturbing(RecordedProgress):
    """Does something once, when the search has come to some plan."""

    def __init__(self, plans: int, disturb: Callable[[], None]) -> None:
        super().__init__()
        self._plans = plans
        self._disturb: Callable[[], None] | None = disturb

    def note(self, text: str) -> None:
        super().note(text)
        found = re.search(r"(\d+) plans", text)
        if self._disturb and found and int(found[1]) >= self._plans:
            disturb, self._disturb = self._disturb, None
            disturb()


def stop() -> None:
    raise KeyboardInterrupt


def kill_worker() -> None:
    os.kill(workers()[0], signal.SIGKILL)


def workers() -> list[int]:
    """Numbers of the workers of this process."""
    children = psutil.Process().children()
    return [child.pid for child in children if backends.PROGRAM[-1] in child.cmdline()]


def scores(run: Run) -> Mapping[tuple[int, ...], object]:
    """All that was measured of each plan, to the last bit."""
    return {
        evaluation.genome: (
            evaluation.round,
            evaluation.score.tokens,
            {name: each.tobytes() for name, each in evaluation.score.by_window.items()},
            evaluation.fresh,
            evaluation.holdout,
        )
        for evaluation in run.landed()
    }
