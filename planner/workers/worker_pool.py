"""Workers that score parts of populations for one search, and what becomes of them."""

import logging
import time
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from itertools import count
from typing import Any

from planner.workers.assignment import MOST_DEATHS, Assignment, Place
from planner.workers.messages import Cancel, Done, Expect, Landed, Ready, Refused, Task, Warned
from planner.workers.process_worker import wait_for_processes
from planner.workers.worker import Wait, Worker
from search_spaces.errors import InputError, ModelError, RunError

logger = logging.getLogger(__name__)

MOST_FAILED_STARTS = 4
"""In a row, after which no more workers are started."""
_POLL_SECONDS = 1.0

Landings = list[tuple[Place, Any]]


class WorkerPool:
    """Some workers, started when they are first needed and again when they die.

    The search holds all that matters: a worker has a model, and the tasks that it was given, of
    which one waits at most, and only while there are more than workers.

    Args:
        start: Starts a worker.
        size: Workers.
        facts: What each must say of what it scores; empty: what the first one says.
        wait: Waits for such workers.
    """

    def __init__(
        self,
        start: Callable[[], Worker],
        size: int,
        facts: Mapping[str, str] | None = None,
        wait: Wait = wait_for_processes,
    ) -> None:
        self._start = start
        self._wait = wait
        self.size = size
        self._facts = facts or {}
        self._workers: list[Worker] = []
        self._failed_starts = 0
        self._deaths_in_vain = 0
        self._last_end = ""
        self._numbers = count()
        self._assigned = Assignment([], self._number)
        self._latest_number = -1
        self._expected: Expect | None = None
        self._windows_at_once: dict[Hashable, int] = {}
        self._warnings: set[str] = set()

    @property
    def pids(self) -> list[int]:
        """Numbers of the workers' processes."""
        return [worker.pid for worker in self._workers]

    def __str__(self) -> str:
        ready = sum(worker.is_ready for worker in self._workers)
        flying = sum(len(worker.in_flight) for worker in self._workers)
        waiting = len(self._assigned.waiting)
        return f"{ready} of {self.size} workers, {flying} tasks in flight, {waiting} waiting"

    def run(self, tasks: Sequence[Task]) -> Generator[tuple[Place, Any]]:
        """Let workers do some tasks, the first ones first.

        Yields:
            Positions of the task and of a candidate in it, and what came of that, or `Lost` where
            workers died on it; each once, as they land.

        Raises:
            InputError: As a worker told of it.
            RunError: If no worker can be started.
            ModelError: If workers die and nothing comes of it.
        """
        self._cancel()
        self._assigned = assigned = Assignment(tasks, self._number)
        for worker in self._workers:
            worker.heard = time.monotonic()  # nobody listened meanwhile
        try:
            while assigned.waiting or any(worker.in_flight for worker in self._workers):
                self._staff()
                self._hand_out()
                yield from self._events()
        finally:
            if self._assigned is assigned:
                self._cancel()

    def expect(self, expected: Expect) -> None:
        """Tell all workers what is likely to come."""
        self._expected = expected
        for worker in self._workers:
            if worker.is_ready:
                worker.say(expected)

    def close(self) -> None:
        """End all workers."""
        while self._workers:
            self._workers.pop().end(kindly=True)

    def _staff(self) -> None:
        """Start workers that are missing.

        Raises:
            RunError: If none can be started.
        """
        while len(self._workers) < self.size and self._failed_starts < MOST_FAILED_STARTS:
            self._workers.append(self._start())
        if not self._workers:
            raise RunError(
                "`workers` must be processes that can be started, got some that end before they "
                f"are ready, the last with {self._last_end}; set `--workers 1`"
            )

    def _hand_out(self) -> None:
        """Give each worker a task, and the next one while there are enough for all."""
        waiting = self._assigned.waiting
        for depth in range(2):
            for worker in self._workers:
                is_free = worker.is_ready and len(worker.in_flight) == depth
                if is_free and len(waiting) > depth * self.size:
                    worker.give(waiting.popleft(), self._windows_at_once)

    def _events(self) -> Landings:
        """Wait for what workers say, and return what landed."""
        landed: Landings = []
        for worker in self._wait(self._workers, _POLL_SECONDS):
            try:
                message = worker.hear()
            except EOFError:
                landed += self._bury(worker)
                continue
            worker.heard = time.monotonic()
            landed += self._take(worker, message)
        for worker in [each for each in self._workers if each.is_silent]:
            landed += self._bury(worker)
        return landed

    def _take(self, worker: Worker, message: object) -> Landings:
        """Take what a worker says, and return what landed."""
        match message:
            case Landed():
                self._deaths_in_vain = 0
                found = self._assigned.landed(message)
                return [] if found is None else [found]
            case Done():
                worker.in_flight = [t for t in worker.in_flight if t.number != message.number]
                known = self._windows_at_once.get(message.text, message.windows_at_once)
                self._windows_at_once[message.text] = min(known, message.windows_at_once)
            case Ready():
                self._welcome(worker, message)
            case Refused():
                raise _error_of(message)
            case Warned() if message.text not in self._warnings:
                self._warnings.add(message.text)  # workers say the same
                logging.getLogger(message.logger).warning("%s", message.text)
        return []

    def _welcome(self, worker: Worker, ready: Ready) -> None:
        """Hold what a worker scores against what the search does.

        Raises:
            ModelError: If it is something else.
        """
        for name, fact in self._facts.items():
            if ready.facts.get(name) != fact:
                raise ModelError(
                    f"a worker must score what the search does, got {name} "
                    f"{ready.facts.get(name)} instead of {fact}; leave files as they are while a "
                    "search runs, and resume it"
                )
        self._facts = self._facts or ready.facts
        worker.is_ready, self._failed_starts = True, 0
        if self._expected is not None:
            worker.say(self._expected)

    def _bury(self, worker: Worker) -> Landings:
        """Give what a dead worker had to others; return those candidates that nobody is to try.

        Raises:
            ModelError: If workers die and nothing comes of it.
        """
        self._workers.remove(worker)
        self._last_end = worker.end(kindly=not worker.is_silent)
        if not worker.is_ready:
            self._failed_starts += 1
            return []
        self._deaths_in_vain += 1
        logger.warning("a worker died (%s); others go on with its task", self._last_end)
        if self._deaths_in_vain > 2 * MOST_DEATHS * (1 + self.size):
            raise ModelError(
                f"workers must get something done, and {self._deaths_in_vain} died in a row, the "
                f"last with {self._last_end}; set fewer `--workers`, or lower `--window_tokens`"
            )
        self._assigned.give_back(worker.in_flight[1:])
        return [
            each
            for task in worker.in_flight[:1]
            for each in self._assigned.bury(task, self._last_end)
        ]

    def _number(self) -> int:
        self._latest_number = next(self._numbers)
        return self._latest_number

    def _cancel(self) -> None:
        """Let workers stop what nobody waits for any more."""
        self._assigned.waiting.clear()
        for worker in self._workers:
            if worker.in_flight:
                worker.in_flight = []
                worker.say(Cancel(number=self._latest_number))


def _error_of(refused: Refused) -> Exception:
    """Return what a worker told of as an error of the search."""
    error = InputError(refused.text) if refused.is_mistake else RuntimeError(refused.text)
    for note in refused.notes:
        error.add_note(note)
    return error
