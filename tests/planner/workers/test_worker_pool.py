"""Every candidate lands once, whatever becomes of the workers."""

import os
import random
import re
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.backends.work import Work
from planner.workers import worker
from planner.workers.assignment import Lost, Place
from planner.workers.messages import Done, Expect, GivenUp, GiveUp, Landed, Ready, Task
from planner.workers.process_worker import ProcessWorker
from planner.workers.worker import Worker
from planner.workers.worker_pool import WorkerPool
from search_spaces.errors import InputError, ModelError, RunError
from tests.planner.workers.toy_population import (
    RUNG,
    begun,
    expected,
    landed,
    population,
    tasks_of,
)
from tests.planner.workers.toy_worker import POISON, REFUSAL, SILENCE, ToySpec, Unreadable

PROGRAM = ("-m", "tests.planner.workers.toy_worker")


@contextmanager
def pool_of(size: int, spec: object, **facts: str) -> Iterator[WorkerPool]:
    pool = WorkerPool(lambda: ProcessWorker(PROGRAM, spec, 1), size, facts or {"model": "toy"})
    try:
        yield pool
    finally:
        pids = pool.pids
        pool.close()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def shared(task: Task) -> Task:
    """The same, whose candidates others may take over."""
    each = np.ones(len(task.configurations))
    return replace(task, work=Work(alone=each, beyond=each))


def texts(spec: ToySpec) -> list[str]:
    """What workers scored on, one text after the other."""
    return spec.texts.read_text().split()


def test_every_candidate_is_scored_once_and_workers_are_used_again(tmp_path: Path) -> None:
    spec, rows = ToySpec(log=tmp_path / "log"), population(20)
    with pool_of(3, spec) as pool:
        for _ in range(2):
            assert landed(pool, tasks_of(rows, 7)) == expected(rows, 7)
        assert len(pool.pids) == 3
    assert begun(spec) == dict.fromkeys(range(20), 2)


@pytest.mark.parametrize("seed", range(4))
def test_killing_workers_at_any_moment_loses_nothing(seed: int, tmp_path: Path) -> None:
    """Five kills each; what is scored again is the part that was lost, at most.

    In every other case workers take over from each other what they have not begun.
    """
    rng = random.Random(seed)
    spec, rows, parts = ToySpec(log=tmp_path / "log", pause=0.002), population(240), 24
    # so far apart that what is tried again has landed: the same one is not hit twice
    kills, found = [45 * turn + rng.randrange(8) for turn in range(5)], dict[Place, Any]()
    tasks = [shared(task) if seed % 2 else task for task in tasks_of(rows, parts)]
    with pool_of(2, spec) as pool:
        for place, result in pool.run(tasks):
            assert place not in found
            found[place] = result[0]
            if len(found) in kills:
                time.sleep(rng.random() * 0.02)
                os.kill(rng.choice(pool.pids), signal.SIGKILL)
    assert found == expected(rows, parts)
    counts = begun(spec)
    assert sorted(counts) == list(range(240))
    # of a part that was lost, what had not landed is begun again, and by itself
    assert sum(counts.values()) - 240 <= 5 * (240 // parts)
    assert max(counts.values()) <= 2


def test_what_two_workers_die_on_is_lost_and_nothing_else(tmp_path: Path) -> None:
    spec, rows = ToySpec(log=tmp_path / "log"), population(12, kinds={5: POISON, 9: POISON})
    with pool_of(2, spec) as pool:
        found = landed(pool, tasks_of(rows, 2))
    lost = {place for place, result in found.items() if isinstance(result, Lost)}
    assert lost == {(0, 5), (1, 3)}
    reason = "2 workers died on it, the last with signal 9, as when memory runs out"
    assert {found[place].reason for place in lost} == {reason}
    right = expected(rows, 2)
    assert all(found[place] == right[place] for place in right.keys() - lost)
    counts = begun(spec)
    assert counts[5] == counts[9] == 2


def test_a_worker_that_falls_silent_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "SILENT_SECONDS", 1.5)
    spec, rows = ToySpec(log=tmp_path / "log"), population(4, kinds={2: SILENCE})
    with pool_of(2, spec) as pool:
        found = landed(pool, tasks_of(rows, 4))
    assert isinstance(found.pop((2, 0)), Lost)
    assert found == {place: value for place, value in expected(rows, 4).items() if place[0] != 2}


def test_workers_that_cannot_start_end_the_search_in_one_sentence(tmp_path: Path) -> None:
    rule = "must be processes that can be started.*exit status 1, it has no place to work"
    with (
        pool_of(2, ToySpec(log=tmp_path / "log", starts=False)) as pool,
        pytest.raises(RunError, match=rule),
    ):
        landed(pool, tasks_of(population(4), 2))


def test_a_worker_of_another_model_is_refused(tmp_path: Path) -> None:
    rule = "must score what the search does, got model toy instead of real"
    with (
        pool_of(1, ToySpec(log=tmp_path / "log"), model="real") as pool,
        pytest.raises(ModelError, match=rule),
    ):
        landed(pool, tasks_of(population(4), 2))


def test_what_a_worker_refuses_is_raised_as_it_is(tmp_path: Path) -> None:
    rows = population(4, kinds={1: REFUSAL})
    with (
        pool_of(2, ToySpec(log=tmp_path / "log")) as pool,
        pytest.raises(InputError, match="text must be there, got none; set `--data`"),
    ):
        landed(pool, tasks_of(rows, 2))


def test_a_defect_of_a_worker_is_raised_with_its_traceback(tmp_path: Path) -> None:
    (task,) = tasks_of(population(4), 1)
    with (
        pool_of(1, ToySpec(log=tmp_path / "log")) as pool,
        pytest.raises(RuntimeError, match=r"a worker failed\nTraceback[^$]*'Toy' object has no"),
    ):
        landed(pool, [replace(task, method="sample")])


def test_what_a_worker_cannot_read_is_raised_with_its_traceback() -> None:
    with (
        pool_of(1, Unreadable()) as pool,
        pytest.raises(RuntimeError, match=r"a worker failed\nTraceback[^$]*tests.no_such_module"),
    ):
        landed(pool, tasks_of(population(4), 1))


def test_workers_that_only_die_end_the_search(tmp_path: Path) -> None:
    rows = population(40, kinds=dict.fromkeys(range(40), POISON))
    with (
        pool_of(1, ToySpec(log=tmp_path / "log")) as pool,
        pytest.raises(ModelError, match="must get something done, and 9 died in a row"),
    ):
        landed(pool, tasks_of(rows, 1))


def test_what_nobody_waits_for_is_left(tmp_path: Path) -> None:
    spec, rows = ToySpec(log=tmp_path / "log", pause=0.02), population(200)
    with pool_of(2, spec) as pool:
        with closing(pool.run(tasks_of(rows, 2))) as walk:  # as a limit does
            next(walk)
        again = population(4)
        assert landed(pool, tasks_of(again, 2)) == expected(again, 2)
    assert sum(begun(spec).values()) < 100


def test_tasks_of_two_callers_are_not_mixed_up(tmp_path: Path) -> None:
    """Whoever began later has the workers; what lands is not taken for the other's."""
    rows, others = population(8), population(3)
    with pool_of(2, ToySpec(log=tmp_path / "log", pause=0.01)) as pool:
        with closing(pool.run(tasks_of(rows, 2))) as walk:
            next(walk)
            assert landed(pool, tasks_of(others, 3)) == expected(others, 3)
            with pytest.raises(RuntimeError, match="do the tasks of one caller at a time"):
                next(walk)
        assert landed(pool, tasks_of(rows, 2)) == expected(rows, 2)


def test_a_new_worker_is_not_told_what_was_expected_of_another_text(tmp_path: Path) -> None:
    """It would make what scores on that text, only to put it away again."""
    spec, rows = ToySpec(log=tmp_path / "log"), population(4)
    with pool_of(1, spec) as pool:
        landed(pool, tasks_of(rows, 1))
        pool.expect(Expect(text="old", parents=rows[:1]))
        landed(pool, tasks_of(rows, 1))
        assert texts(spec) == ["toy", "old", "toy"]
        os.kill(pool.pids[0], signal.SIGKILL)
        assert landed(pool, tasks_of(rows, 1)) == expected(rows, 1)
    assert texts(spec) == ["toy", "old", "toy", "toy"]


def test_once_memory_ran_out_all_workers_do_with_less(tmp_path: Path) -> None:
    spec = ToySpec(log=tmp_path / "log", most_at_once=2)
    with pool_of(2, spec) as pool:
        first = dict(pool.run(tasks_of(population(2), 2)))
        assert max(at_once for _, at_once in first.values()) == 8
        later = dict(pool.run(tasks_of(population(2), 2)))
        assert {at_once for _, at_once in later.values()} == {2}


def test_it_says_what_is_under_way(tmp_path: Path) -> None:
    with pool_of(2, ToySpec(log=tmp_path / "log", pause=0.05)) as pool:
        assert str(pool) == "0 of 2 workers, 0 tasks in flight, 0 waiting, 0% idle"
        said = [str(pool) for _ in pool.run(tasks_of(population(9), 9))]
    assert any("2 of 2 workers" in text for text in said)
    rule = r".*, [234] tasks in flight, [1-7] waiting, \d+% idle"
    assert any(re.fullmatch(rule, text) for text in said)


def test_one_that_has_nothing_to_do_takes_over_what_others_have_not_begun(tmp_path: Path) -> None:
    """Parts were thought to be equal, and one of them takes forty times as long."""
    rows = population(44)
    (whole,) = tasks_of(rows, 1)
    parts = [shared(whole.part(range(4))), shared(whole.part(range(4, 44)))]
    spec = ToySpec(log=tmp_path / "log", pause=0.02)
    with pool_of(2, spec) as pool:
        landed(pool, tasks_of(population(2), 2))  # both are ready
        spec.log.write_text("")
        found = landed(pool, parts)
    assert sorted(found) == [*((0, m) for m in range(4)), *((1, m) for m in range(40))]
    assert set(found.values()) == {RUNG + number for number in range(44)}
    assert begun(spec) == dict.fromkeys(range(44), 1)
    assert pool.idle_share < 0.25  # 0.45 if each did its own


class Scripted(Worker):
    """Says what a test lets it say."""

    pid = 0

    def __init__(self) -> None:
        super().__init__()
        self.said: deque[object] = deque([Ready(facts={})])
        self.asked: list[int] = []
        """Numbers of tasks of which it was asked to give something up."""

    def say(self, message: object) -> None:
        if isinstance(message, GiveUp):
            self.asked.append(message.number)

    def hear(self) -> object:
        message = self.said.popleft()
        if message is EOFError:
            raise EOFError
        return message

    def end(self, *, kindly: bool) -> str:
        return "signal 9"

    def do_first(self) -> None:
        """Do the first task that it has."""
        task = self.in_flight[0]
        self.said += [
            Landed(number=task.number, member=member, result=None)
            for member in range(len(task.configurations))
        ]
        self.said.append(Done(number=task.number, text="toy", windows_at_once=8))


def test_what_is_given_up_whole_is_nothing_of_its_worker_any_more() -> None:
    """Of two workers one is given a long task and another one, which it does not come to."""
    first, second = workers = [Scripted(), Scripted()]
    hired = iter(workers)
    pool = WorkerPool(
        lambda: next(hired),
        2,
        wait=lambda those, _: [w for w in those if w.said],  # type: ignore[attr-defined]
    )
    parts = [shared(each) for each in tasks_of(population(25), 5)]
    assigned = pool.begin(parts)
    found = pool.step(0.0)  # they are ready
    pool.step(0.0)
    long, short = first.in_flight
    while not first.asked:
        if second.in_flight:
            second.do_first()
        found += pool.step(0.0)
    assert first.asked == [short.number]
    first.said.append(GivenUp(number=short.number, members=range(5)))
    while len(first.asked) == 1:
        if second.in_flight:
            second.do_first()
        found += pool.step(0.0)
    assert first.in_flight == [long]
    assert first.asked == [short.number, long.number]
    first.said += [GivenUp(number=long.number, members=[]), EOFError]
    hired = iter([Scripted()])
    pool.step(0.0)
    pool.step(0.0)
    assert sorted(place for place, _ in found) == [(p, m) for p in range(1, 5) for m in range(5)]
    left = [task for worker in pool.workers for task in worker.in_flight] + [*assigned.waiting]
    assert sum(len(task.configurations) for task in left) == 5  # those of the long one
