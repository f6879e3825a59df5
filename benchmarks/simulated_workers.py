"""Workers whose tasks take simulated time, for the pool that runs real ones."""

import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import numpy as np

from evaluators.backends.handover import Handover
from evaluators.backends.population_cut import PopulationCutter
from evaluators.scoring.passes.population_pass import HEADS_AT_ONCE
from planner.workers.messages import Done, GivenUp, GiveUp, Landed, Ready, Task
from planner.workers.worker import Worker
from planner.workers.worker_pool import WorkerPool
from search_spaces.space.configuration import Configurations

Prefixes = set[bytes]
"""Configurations up to a step, of each that was run."""


class Times(Protocol):
    """How long everything takes."""

    @property
    def reading(self) -> float:
        """Seconds of reading a candidate out."""
        ...

    def walk(self, configurations: Configurations, run: Prefixes) -> tuple[float, Prefixes]:
        """Return the seconds of what a candidate runs beyond some prefixes, and what that is."""
        ...


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """How some workers did with a population."""

    seconds: float
    idle_share: float


class SimulatedClock:
    """Lets time pass to what happens next."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        """Return the simulated time."""
        return self.time

    def wait(self, workers: Sequence[Worker], _seconds: float) -> Sequence[Worker]:
        """Let workers work until one of them says something; see `Wait`."""
        simulated = cast("Sequence[SimulatedWorker]", workers)
        while not (heard := [worker for worker in simulated if worker.said]):
            first = min(simulated, key=lambda worker: worker.due)
            if math.isinf(first.due):
                raise RuntimeError("somebody must work while others wait, and nobody does")
            self.time = max(self.time, first.due)
            first.go_on()
        return heard


@dataclass
class _Doing:
    """A task, and how far it has come."""

    task: Task
    handover: Handover
    left: list[int]
    """Members that were not walked to their end."""
    arrived: list[int] = field(default_factory=list)
    """Members that are to be read out."""
    run: Prefixes = field(default_factory=set)
    walking: Prefixes | None = None
    """What the first one of those that are left is about to have run."""


class SimulatedWorker(Worker):
    """Does what a process does: depth first, reads out some at a time, gives up what it can.

    Args:
        clock: Whose time passes.
        times: How long everything takes.
    """

    def __init__(self, clock: SimulatedClock, times: Times) -> None:
        super().__init__()
        self._clock = clock
        self._times = times
        self._tasks: deque[_Doing] = deque()
        self.said: deque[object] = deque([Ready(facts={})])
        """What nobody has heard yet."""
        self.due = math.inf
        """When it has done what it is doing."""

    @property
    def is_silent(self) -> bool:
        """Whether it fell silent, which it never does."""
        return False

    def give(self, task: Task, windows_at_once: Mapping[Any, int]) -> None:
        """Give it a task; see `Worker`."""
        self.in_flight.append(task)
        count = len(task.configurations)
        self._tasks.append(_Doing(task, Handover(count, task.work), list(range(count))))
        if len(self._tasks) == 1:
            self._begin()

    @property
    def pid(self) -> int:
        """Of this process; see `Worker`."""
        return os.getpid()

    def say(self, message: object) -> None:
        """Take a message; see `Worker`."""
        if isinstance(message, GiveUp):
            self._give_up(message)

    def hear(self) -> object:
        """Return what it said first; see `Worker`."""
        return self.said.popleft()

    def end(self, *, kindly: bool) -> str:
        """End it; see `Worker`."""
        return "exit status 0"

    def go_on(self) -> None:
        """Take the step that is due now."""
        doing = self._tasks[0]
        if doing.walking is not None:
            doing.run |= doing.walking
            doing.arrived.append(doing.left.pop(0))
            doing.handover.keep(np.array(doing.arrived), True)
        else:
            number = doing.task.number
            self.said += [Landed(number=number, member=m, result=None) for m in doing.arrived]
            doing.arrived.clear()
        self._begin()

    def _begin(self) -> None:
        """Begin the next step, if there is one."""
        self.due = math.inf
        while self._tasks:
            doing, now = self._tasks[0], self._clock.now()
            doing.handover.keep(np.array(doing.left), False)
            doing.walking = None
            if len(doing.arrived) == HEADS_AT_ONCE or (doing.arrived and not doing.left):
                self.due = now + len(doing.arrived) * self._times.reading
                return
            if doing.left:
                candidate = doing.task.configurations[doing.left[0]]
                seconds, doing.walking = self._times.walk(candidate, doing.run)
                self.due = now + seconds
                return
            self._tasks.popleft()
            self.said.append(Done(number=doing.task.number, text="", windows_at_once=1))

    def _give_up(self, asked: GiveUp) -> None:
        given: list[int] = []
        for place, doing in enumerate(self._tasks):
            if doing.task.number == asked.number:
                walking = doing.left[0] if doing.walking is not None else None
                given = doing.handover.give_up()
                doing.left = [member for member in doing.left if member not in given]
                if place == 0 and walking in given:
                    self._begin()
        self.said.append(GivenUp(number=asked.number, members=given))


def simulate(
    cutter: PopulationCutter, times: Times, configurations: Configurations, count: int
) -> Simulated:
    """Let workers score a population as it is cut for them.

    Args:
        cutter: Cuts it.
        times: How long everything takes.
        configurations: ``(candidates, components)``, components as they run.
        count: Workers.
    """
    cut = cutter.cut(configurations, count)
    whole = Task(method="score", text="", configurations=configurations)
    return _run(
        [
            replace(whole.part(part.tolist()), work=work)
            for part, work in zip(cut.parts, cut.works, strict=True)
        ],
        times,
        count,
    )


def alone(times: Times, configurations: Configurations) -> Simulated:
    """Let one worker score a population ``(candidates, components)`` in one part."""
    order = np.lexsort(configurations.T[::-1])
    whole = Task(method="score", text="", configurations=configurations[order])
    return _run([whole], times, 1)


def _run(tasks: Sequence[Task], times: Times, count: int) -> Simulated:
    clock = SimulatedClock()
    pool = WorkerPool(lambda: SimulatedWorker(clock, times), count, wait=clock.wait, now=clock.now)
    landed = [place for place, _ in pool.run(tasks)]
    size = sum(len(task.configurations) for task in tasks)
    assert len(set(landed)) == len(landed) == size, "each candidate lands once"
    return Simulated(seconds=clock.time, idle_share=pool.idle_share)
