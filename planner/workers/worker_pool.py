"""Workers that score parts of populations for one search, and what becomes of them."""

import logging
import time
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from itertools import count
from typing import Any

from planner.workers.assignment import MOST_DEATHS, Assignment, Place
from planner.workers.idleness import Idleness
from planner.workers.messages import (
    Cancel,
    Done,
    Expect,
    GivenUp,
    GiveUp,
    Landed,
    Ready,
    Refused,
    Task,
    Warned,
)
from planner.workers.process_worker import wait_for_processes
from planner.workers.staffing import Staffing
from planner.workers.worker import Wait, Worker
from search_spaces.errors import ModelError

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""Between two looks for workers that fell silent."""

Landings = list[tuple[Place, Any]]


class WorkerPool:
    """Some workers, started when they are first needed and again when they die.

    The search holds all that matters: a worker has a model, and the tasks that it was given, of
    which one waits at most, and only while there are more than workers. One that has nothing to do
    takes over what another, the one with most left, has not begun.

    Args:
        start: Starts a worker.
        size: Workers.
        facts: What each must say of what it scores; empty: what the first one says.
        wait: Waits for such workers.
        now: Returns seconds since some moment.
    """

    def __init__(
        self,
        start: Callable[[], Worker],
        size: int,
        facts: Mapping[str, str] | None = None,
        wait: Wait = wait_for_processes,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._staffing = Staffing(start, size)
        self._wait = wait
        self.size = size
        self._facts = facts or {}
        self._deaths_in_vain = 0
        self._now = now
        self._idleness = Idleness(now)
        self._numbers = count()
        self._assigned = Assignment([], self._number)
        self._latest_number = -1
        self._windows_at_once: dict[Hashable, int] = {}
        self._warnings: set[str] = set()

    @property
    def workers(self) -> list[Worker]:
        """Those that were started and have not ended."""
        return self._staffing.workers

    @property
    def pids(self) -> list[int]:
        """Numbers of the workers' processes."""
        return [worker.pid for worker in self.workers]

    @property
    def ready(self) -> int:
        """Workers that wait for tasks or do some."""
        return sum(worker.is_ready for worker in self.workers)

    def __str__(self) -> str:
        flying = sum(len(worker.in_flight) for worker in self.workers)
        waiting = len(self._assigned.waiting)
        tasks = f"{flying} tasks in flight, {waiting} waiting"
        return f"{self.ready} of {self.size} workers, {tasks}, {self.idle_share:.0%} idle"

    @property
    def idle_share(self) -> float:
        """Share of the time of workers in which they waited for others to end their tasks."""
        return self._idleness.share

    def run(self, tasks: Sequence[Task]) -> Generator[tuple[Place, Any]]:
        """Let workers do some tasks, the first ones first.

        Yields:
            Positions of the task and of a candidate in it, and what came of that, or `Lost` where
            workers died on it; each once, as they land.

        Raises:
            InputError: As a worker told of it.
            RunError: If no worker can be started.
            ModelError: If workers die and nothing comes of it.
            RuntimeError: If other tasks were begun meanwhile, which end these.
        """
        assigned = self.begin(tasks)
        try:
            while self.is_busy:
                for landed in self.step(POLL_SECONDS):
                    yield landed
                    if self._assigned is not assigned:
                        raise RuntimeError("workers do the tasks of one caller at a time")
        finally:
            if self._assigned is assigned:
                self._cancel()

    def begin(self, tasks: Sequence[Task] = ()) -> Assignment:
        """Leave what is under way, and let workers do other tasks as `step` is called."""
        self._cancel()
        self._assigned = Assignment(tasks, self._number)
        if self.ready:
            self._staffing.hope()
        for worker in self.workers:
            worker.heard = self._now()  # nobody listened meanwhile
        return self._assigned

    def add(self, task: Task) -> None:
        """Let workers do one more task, after all others."""
        self._assigned.add(task)

    @property
    def is_busy(self) -> bool:
        """Whether some task is not done."""
        in_flight = any(worker.in_flight for worker in self.workers)
        return in_flight or bool(self._assigned.waiting)

    def step(self, seconds: float) -> Landings:
        """Hand out tasks, and return what landed; see `run`.

        Args:
            seconds: To wait for workers to say something.
        """
        self._staffing.fill()
        self._hand_out()
        self._share_out()
        with self._idleness.watched(self.ready, len(self._idle)):
            return self._events(seconds)

    def expect(self, expected: Expect) -> None:
        """Tell the workers that are there what is likely to come: others have no use of it yet.

        What prepares for it are hidden states on text, of which a new one has run none.
        """
        for worker in self.workers:
            if worker.is_ready:
                worker.say(expected)

    def close(self) -> None:
        """End all workers."""
        self._staffing.close()

    def _hand_out(self) -> None:
        """Give each worker a task, and the next one while there are enough for all."""
        waiting = self._assigned.waiting
        for depth in range(2):
            for worker in self.workers:
                is_free = worker.is_ready and len(worker.in_flight) == depth
                if is_free and len(waiting) > depth * self.size:
                    worker.give(waiting.popleft(), self._windows_at_once)

    def _share_out(self) -> None:
        """Ask those with most left to give something up, as many as have nothing to do."""
        if self._assigned.waiting:
            return
        takers = len(self._idle) - sum(worker.is_asked for worker in self.workers)
        if takers <= 0:
            return
        busy = [worker for worker in self.workers if worker.in_flight and not worker.is_asked]
        givers = [each for each in busy if self._assigned.is_open(each.in_flight[-1])]
        givers.sort(key=lambda worker: -self._assigned.work_left(worker.in_flight))
        for worker in givers[:takers]:
            worker.is_asked = True
            worker.say(GiveUp(number=worker.in_flight[-1].number))

    @property
    def _idle(self) -> list[Worker]:
        return [each for each in self.workers if each.is_ready and not each.in_flight]

    def _events(self, seconds: float) -> Landings:
        """Wait for what workers say, and return what landed."""
        landed: Landings = []
        for worker in self._wait(self.workers, seconds):
            try:
                message = worker.hear()
            except EOFError:
                landed += self._bury(worker)
                continue
            worker.heard = self._now()
            landed += self._take(worker, message)
        for worker in [each for each in self.workers if each.is_silent]:
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
            case GivenUp():
                self._pass_on(worker, message)
            case Ready():
                self._welcome(worker, message)
            case Refused():
                raise message.error()
            case Warned() if message.text not in self._warnings:
                self._warnings.add(message.text)  # workers say the same
                logging.getLogger(message.logger).warning("%s", message.text)
        return []

    def _pass_on(self, worker: Worker, given: GivenUp) -> None:
        """Let others do what a worker leaves to them, unless nobody waits for it any more."""
        worker.is_asked = False
        for task in worker.in_flight:
            if task.number == given.number:
                self._assigned.hand_over(task, given.members)
        # what it gave up whole is no more its own
        worker.in_flight = [t for t in worker.in_flight if not self._assigned.is_handed_over(t)]

    def _welcome(self, worker: Worker, ready: Ready) -> None:
        """Hold what a worker scores against what the search does.

        Raises:
            ModelError: If it is something else.
        """
        ready.check(self._facts, worker.where)
        self._facts = self._facts or ready.facts
        worker.is_ready = True
        self._staffing.hope()

    def _bury(self, worker: Worker) -> Landings:
        """Give what a dead worker had to others; return those candidates that nobody is to try.

        Raises:
            ModelError: If workers die and nothing comes of it.
        """
        self._staffing.end(worker)
        if not worker.is_ready:
            return []
        self._deaths_in_vain += 1
        logger.warning("a worker died (%s); others go on with its task", self._staffing.last_end)
        if self._deaths_in_vain > 2 * MOST_DEATHS * (1 + self.size):
            raise ModelError(
                f"workers must get something done, and {self._deaths_in_vain} died in a row, the "
                f"last with {self._staffing.last_end}; lower `--window_tokens`, or use fewer "
                "workers"
            )
        self._assigned.give_back(worker.in_flight[1:])
        return [
            each
            for task in worker.in_flight[:1]
            for each in self._assigned.bury(task, self._staffing.last_end)
        ]

    def _number(self) -> int:
        self._latest_number = next(self._numbers)
        return self._latest_number

    def _cancel(self) -> None:
        """Let workers stop what nobody waits for any more."""
        self._assigned.waiting.clear()
        for worker in self.workers:
            if worker.in_flight:
                worker.in_flight = []
                worker.say(Cancel(number=self._latest_number))
