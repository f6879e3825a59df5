"""The stages of a pipeline over depth, each a worker of its own, and what passes through them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from evaluators.backends.stage import Windows
from evaluators.scoring.prefix_tree import Members
from planner.workers.idleness import Idleness
from planner.workers.messages import Task
from planner.workers.process_worker import wait_for_processes
from planner.workers.worker_pool import POLL_SECONDS, WorkerPool


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """Some windows that candidates are run on at once."""

    index: int
    """Among those that a population is scored on."""
    windows: Windows
    parts: tuple[Windows, ...]
    """The batches that the dense model is run on, which hold these windows."""


@dataclass(kw_only=True)
class Passage:
    """Some candidates on one batch on their way through one stage."""

    stage: int
    batch: TextBatch
    groups: Sequence[Members]
    """Candidates that agree up to the end of the stage: each group crosses as one."""
    entering: Path | None
    """Hidden states after the stage before; None: there is none."""
    leaving: Sequence[Path]
    """Hidden states after this stage, of each group; empty: it is the last one."""
    part: Windows | None = None
    """That the dense model passes on; None: candidates do."""
    left: int = 0
    """Groups that are not behind the stage."""


class StageLine:
    """Stages one after another, to which tasks are given as hidden states arrive.

    Where the worker of a stage dies, another one reads the same layers, and does again what the
    first had not finished: hidden states lie in files until all that needs them is done.

    Args:
        stages: For each the pool of one worker that holds its layers.
        layers: Of each stage.
        folder: For hidden states.
    """

    def __init__(
        self, stages: Sequence[WorkerPool], layers: Sequence[range], folder: Path
    ) -> None:
        self._stages = stages
        self.layers = layers
        self._folder = folder
        self._numbers = count()
        self._passages: list[list[Passage]] = []
        self._idleness = Idleness(time.monotonic)

    def __str__(self) -> str:
        ready = sum(stage.ready for stage in self._stages)
        count = len(self._stages)
        return f"{ready} of {count} stages of a pipeline, {self.idle_share:.0%} idle"

    @property
    def idle_share(self) -> float:
        """Share of the stages' time in which they waited for others."""
        return self._idleness.share

    def begin(self) -> None:
        """Leave what is under way; its files stay, for a worker may still be reading one."""
        self._passages = [[] for _ in self._stages]
        for stage in self._stages:
            stage.begin()

    def give(self, passage: Passage, task: Task) -> None:
        """Let the worker of a stage do a task, after all others."""
        passage.left = len(task.configurations)
        self._passages[passage.stage].append(passage)
        self._stages[passage.stage].add(task)

    def landings(self) -> Iterator[tuple[Passage, int, Any]]:
        """Yield what landed until nothing is left to do: a passage, a group, and its result.

        Raises:
            InputError: As a worker told of it.
            RunError: If a worker cannot be started.
            ModelError: If workers die and nothing comes of it.
            RuntimeError: If another population was begun meanwhile, which ends this one.
        """
        own = self._passages
        while any(stage.is_busy for stage in self._stages):
            workers = [worker for stage in self._stages for worker in stage.workers]
            ready = [worker for worker in workers if worker.is_ready]
            idle = sum(not worker.in_flight for worker in ready)
            with self._idleness.watched(len(ready), idle):
                wait_for_processes(workers, POLL_SECONDS)
            for stage, passages in zip(self._stages, own, strict=True):
                for (position, group), result in stage.step(0.0):
                    yield passages[position], group, result
                    if self._passages is not own:
                        raise RuntimeError("stages do the tasks of one caller at a time")
                    self._left(passages[position])

    def file(self) -> Path:
        """Return the path of a new file for hidden states."""
        return self._folder / f"{next(self._numbers)}.state"

    def close(self) -> None:
        """End all workers."""
        for stage in self._stages:
            stage.close()

    def _left(self, passage: Passage) -> None:
        """Delete what entered a stage once all that needs it is behind that."""
        passage.left -= 1
        if not passage.left and passage.entering is not None:
            passage.entering.unlink(missing_ok=True)
