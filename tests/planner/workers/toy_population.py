"""Populations of the toy worker, and what is to come of them."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.workers.assignment import Lost, Place
from planner.workers.messages import Task
from planner.workers.worker_pool import WorkerPool
from tests.planner.workers.toy_worker import ToySpec

RUNG = 100


def population(size: int, *, kinds: dict[int, int] | None = None) -> NDArray[np.int_]:
    """Candidates with a number each, and what is to become of them."""
    rows = np.column_stack([np.arange(size), np.zeros(size, dtype=np.int_)])
    for number, kind in (kinds or {}).items():
        rows[number, 1] = kind
    return rows


def tasks_of(rows: NDArray[np.int_], parts: int) -> list[Task]:
    whole = Task(method="score", text="toy", configurations=rows, arguments={"rung": RUNG})
    return [whole.part(part.tolist()) for part in np.array_split(np.arange(len(rows)), parts)]


def expected(rows: NDArray[np.int_], parts: int) -> dict[Place, int]:
    sizes = [len(task.configurations) for task in tasks_of(rows, parts)]
    places = [(task, member) for task, size in enumerate(sizes) for member in range(size)]
    return dict(zip(places, (RUNG + rows.sum(axis=1)).tolist(), strict=True))


def landed(pool: WorkerPool, tasks: list[Task]) -> dict[Place, Any]:
    found: dict[Place, Any] = {}
    for place, result in pool.run(tasks):
        assert place not in found
        found[place] = result if isinstance(result, Lost) else result[0]
    return found


def begun(spec: ToySpec) -> Counter[int]:
    """How often each candidate was begun."""
    return Counter(map(int, spec.log.read_text().split()))
