"""A stage without a model: it adds up its components, and dies when it is told to."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.scoring.score import Score
from planner.workers import serving

Windows = tuple[int, ...]
POISON = 99
"""What a stage dies on that holds the component."""


@dataclass(frozen=True, kw_only=True)
class ToySpec:
    start: int
    stop: int
    """Components that it runs."""
    log: Path
    """A line for each hidden state that was computed: the stage's first component, and windows."""
    is_last: bool
    pause: float = 0.0
    """Seconds that each takes."""


class ToyStage:
    """A hidden state is the sum of components so far, each times its number, and a text's."""

    windows_at_once = 4

    def __init__(self, spec: ToySpec) -> None:
        self._spec = spec

    def shrink_to(self, windows: int) -> None:
        pass

    def dense(
        self,
        configurations: NDArray[np.int_],
        *,
        windows: Windows,
        entering: Path | None,
        leaving: Sequence[Path],
    ) -> Iterator[tuple[int, float]]:
        leaving[0].write_text(repr(self._through(configurations[0], windows, entering)))
        yield 0, 0.25

    def advance(
        self,
        configurations: NDArray[np.int_],
        *,
        windows: Windows,
        entering: Path | None,
        leaving: Sequence[Path] = (),
        teachers: Mapping[Windows, Path],
    ) -> Iterator[tuple[int, float | Score]]:
        for member, row in enumerate(configurations):
            state = self._through(row, windows, entering)
            with self._spec.log.open("a") as file:
                file.write(f"{self._spec.start}\n")
            time.sleep(self._spec.pause)
            if not self._spec.is_last:
                leaving[member].write_text(repr(state))
                yield member, 0.5
                continue
            taught = sum(float(path.read_text()) for path in teachers.values())
            values = np.array([state + window / 10 for window in windows]) - taught
            yield member, Score.of({"kl": values}, len(windows), 0.5)

    def _through(self, row: NDArray[np.int_], windows: Windows, entering: Path | None) -> float:
        own = row[self._spec.start : self._spec.stop]
        if POISON in own:
            os.kill(os.getpid(), signal.SIGKILL)
        before = float(sum(windows)) if entering is None else float(entering.read_text())
        numbers = np.arange(self._spec.start, self._spec.stop)
        return before + float((own * (numbers + 1)).sum())


class ToyDesk:
    facts: Mapping[str, str] = {"model": "toy"}

    def __init__(self, spec: ToySpec, _threads: int) -> None:
        self._stage = ToyStage(spec)

    def scoring(self, _text: object) -> ToyStage:
        return self._stage


if __name__ == "__main__":
    serving.BEAT_SECONDS = 0.1
    serving.serve(Connection(int(sys.argv[1])), ToyDesk)
