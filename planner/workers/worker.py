"""One worker as the search sees it, wherever it runs, and what it was given to do."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

from planner.workers.messages import Task

SILENT_SECONDS = 120.0
"""After which a worker that gave no sign of life is taken for dead."""


class Worker(ABC):
    """Something that scores."""

    def __init__(self) -> None:
        self.in_flight: list[Task] = []
        """What it was given and has not done, the first of which it works on."""
        self.is_asked = False
        """Whether it was asked to give something up, and has not answered."""
        self.is_ready = False
        self.where = ""
        """Which machine it is on, as a sentence goes on with it; empty: this one."""
        self.heard = time.monotonic()
        """When it last gave a sign of life."""

    @property
    def is_silent(self) -> bool:
        """Whether it gave no sign of life for too long."""
        return time.monotonic() - self.heard > SILENT_SECONDS

    def give(self, task: Task, windows_at_once: Mapping[Hashable, int]) -> None:
        """Give it a task.

        Args:
            task: It works on others before this one, if it has any.
            windows_at_once: Most that memory sufficed for so far, by text.
        """
        task = replace(task, windows_at_once=windows_at_once.get(task.text))
        self.in_flight.append(task)
        self.say(task)  # if it is dead, hearing of it will say so

    @property
    @abstractmethod
    def pid(self) -> int:
        """Number of its process, on its own machine."""

    @abstractmethod
    def say(self, message: object) -> None:
        """Send a message, in vain if it is dead."""

    @abstractmethod
    def hear(self) -> object:
        """Return the next message; what waits for workers says when there is one.

        Raises:
            EOFError: If it is dead.
        """

    @abstractmethod
    def end(self, *, kindly: bool) -> str:
        """End it, if it has not ended, and return how it did.

        Args:
            kindly: Whether to let it end by itself, a little while.
        """


Wait = Callable[[Sequence[Worker], float], Sequence[Worker]]
"""Given workers of one kind and some seconds, returns those that are to be heard by then."""
