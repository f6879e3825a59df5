"""What is left to do of some tasks, whoever does them."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from planner.workers.messages import Landed, Task

MOST_DEATHS = 2
"""Of workers on one candidate, after which it is no worker's fault."""

Place = tuple[int, int]
"""Position of a task among those that were assigned, and that of a candidate in it."""


@dataclass(frozen=True, kw_only=True)
class Lost:
    """What comes of a candidate that workers died on."""

    reason: str


class Assignment:
    """Some tasks on their way through workers, each candidate of which lands once.

    Args:
        tasks: The first ones are done first.
        next_number: Returns a number for each task, higher than all before.
    """

    def __init__(self, tasks: Sequence[Task], next_number: Callable[[], int]) -> None:
        self._next_number = next_number
        self.waiting: deque[Task] = deque()
        """Those that no worker has."""
        self._left: dict[int, dict[int, Place]] = {}
        """Of each task by its number, the places of candidates that have not landed."""
        self._deaths: dict[int, int] = {}
        self._closed: set[int] = set()
        """Tasks of which a worker had nothing to give up."""
        self._handed_over: set[int] = set()
        """Tasks of which a worker gave up something."""
        self._count = 0
        for task in tasks:
            self.add(task)

    def add(self, task: Task) -> None:
        """Assign one more task, after all others."""
        places = [(self._count, member) for member in range(len(task.configurations))]
        self.waiting.append(self._entered(task, places))
        self._count += 1

    def landed(self, message: Landed) -> tuple[Place, Any] | None:
        """Return the place of a candidate and its result; None: it belongs to others."""
        place = self._left.get(message.number, {}).pop(message.member, None)
        return None if place is None else (place, message.result)

    def work_left(self, tasks: Iterable[Task]) -> float:
        """Return the work of what has not landed of some tasks."""
        found = [(task.work, sorted(self._left.get(task.number, ()))) for task in tasks]
        return sum(work.of(left).total for work, left in found if work is not None)

    def is_open(self, task: Task) -> bool:
        """Return whether others may take over candidates of a task that a worker has."""
        return task.number not in self._closed

    def is_handed_over(self, task: Task) -> bool:
        """Return whether a worker gave up all of a task that had not landed."""
        return task.number in self._handed_over and not self._left[task.number]

    def hand_over(self, task: Task, members: Sequence[int]) -> None:
        """Let others do candidates of a task that its worker gave up; none: ask it no more."""
        if not members:
            self._closed.add(task.number)
            return
        self._handed_over.add(task.number)
        left = self._left[task.number]
        part = self._entered(task.part(members), [left.pop(member) for member in members])
        self._deaths[part.number] = self._deaths.get(task.number, 0)
        self.waiting.appendleft(part)

    def give_back(self, tasks: Iterable[Task]) -> None:
        """Let others do tasks that were not begun, before all else."""
        self.waiting.extendleft(reversed(list(tasks)))

    def bury(self, task: Task, end: str) -> list[tuple[Place, Lost]]:
        """Let others do what is left of a task on which a worker died.

        Each candidate is tried again by itself: it may be what kills workers.

        Args:
            task: That it worked on.
            end: How it died, in words.

        Returns:
            Candidates that nobody is to try again.
        """
        left, deaths = self._left.pop(task.number), self._deaths.get(task.number, 0) + 1
        if deaths >= MOST_DEATHS:
            reason = f"{deaths} workers died on it, the last with {end}"
            return [(place, Lost(reason=reason)) for place in left.values()]
        alone = [self._entered(task.part([m]), [place]) for m, place in left.items()]
        self._deaths |= dict.fromkeys((each.number for each in alone), deaths)
        self.give_back(alone)
        return []

    def _entered(self, task: Task, places: Sequence[Place]) -> Task:
        numbered = replace(task, number=self._next_number())
        self._left[numbered.number] = dict(enumerate(places))
        return numbered
