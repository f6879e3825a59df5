"""A worker without a model: it adds up, writes down what it did, and dies when it is told to."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.backends.handover import Handover
from planner.workers import serving
from search_spaces.errors import DataError

POISON, SILENCE, REFUSAL, FAINT = -1, -2, -3, -4
"""Configurations that kill a worker, stop it, are refused by it, and stop the first one only."""

Keep = Callable[[NDArray[np.int_], bool], NDArray[np.int_]]
NOBODY = Handover(0, None)
"""What is given up of tasks that are not shared out."""


@dataclass(frozen=True, kw_only=True)
class ToySpec:
    log: Path
    """A line for each candidate that was begun."""
    pause: float = 0.0
    """Seconds that each takes."""
    facts: tuple[tuple[str, str], ...] = (("model", "toy"),)
    starts: bool = True
    most_at_once: int = 8

    @property
    def texts(self) -> Path:
        """A line for each text that a worker scores on, after another one."""
        return self.log.with_suffix(".texts")


class Unreadable:
    """What a worker that is told of it fails to import."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return import_module, ("tests.no_such_module",)


class Toy:
    """Scores by a sum."""

    def __init__(self, spec: ToySpec) -> None:
        self._spec = spec
        self.windows_at_once = 8

    def shrink_to(self, windows: int) -> None:
        self.windows_at_once = min(self.windows_at_once, windows)

    def expect(self, _parents: NDArray[np.int_]) -> None:
        """It has nothing to prepare."""

    def score(
        self, configurations: NDArray[np.int_], rung: int, *, keep: Keep = NOBODY.keep
    ) -> Iterator[tuple[int, tuple[int, int]]]:
        for member in range(len(configurations)):
            if not len(keep(np.array([member]), True)):
                continue
            row = configurations[member].tolist()
            with self._spec.log.open("a") as file:
                file.write(f"{row[0]}\n")
            match row[1]:
                case number if number == POISON:
                    os.kill(os.getpid(), signal.SIGKILL)
                case number if number == SILENCE:
                    os.kill(os.getpid(), signal.SIGSTOP)
                case number if number == FAINT:
                    if self._spec.log.read_text().split().count(str(row[0])) == 1:
                        os.kill(os.getpid(), signal.SIGSTOP)
                case number if number == REFUSAL:
                    raise DataError("text must be there, got none; set `--data`")
            time.sleep(self._spec.pause)
            at_once, self.windows_at_once = (
                self.windows_at_once,
                min(self.windows_at_once, self._spec.most_at_once),
            )
            yield member, (rung + sum(row), at_once)


class ToyDesk:
    def __init__(self, spec: ToySpec, _threads: int) -> None:
        if not spec.starts:
            sys.exit("it has no place to work")
        self.facts: Mapping[str, str] = dict(spec.facts)
        self._toy = Toy(spec)
        self._texts, self._text = spec.texts, ""

    def scoring(self, text: object) -> Toy:
        if text != self._text:
            self._text = str(text)
            with self._texts.open("a") as file:
                file.write(f"{text}\n")
        return self._toy


if __name__ == "__main__":
    serving.BEAT_SECONDS = 0.1
    serving.serve(Connection(int(sys.argv[1])), ToyDesk)
