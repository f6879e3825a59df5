"""Workers on Ray do as processes do: every candidate lands once, whatever becomes of them."""

import os
import random
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest

from planner.settings.worker_devices import WorkerDevices
from planner.workers import worker
from planner.workers.assignment import Lost, Place
from planner.workers.on_ray import ray_worker
from planner.workers.on_ray.ray_worker import RayWorker, wait_for_actors
from planner.workers.own_version import own_version
from planner.workers.worker_pool import WorkerPool
from search_spaces.errors import InputError, ModelError, RunError
from tests.planner.workers.toy_population import begun, expected, landed, population, tasks_of
from tests.planner.workers.toy_worker import FAINT, POISON, REFUSAL, ToyDesk, ToySpec, Unreadable

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_here")]


@contextmanager
def pool_of(size: int, spec: object, **facts: str) -> Iterator[WorkerPool]:
    devices = WorkerDevices(count=size, kind="cpu", cores=1)
    pool = WorkerPool(
        lambda: RayWorker(ToyDesk, spec, devices),
        size,
        facts or {"model": "toy"},
        wait_for_actors,
    )
    try:
        yield pool
    finally:
        pool.close()


def test_every_candidate_is_scored_once_and_actors_are_used_again(tmp_path: Path) -> None:
    spec, rows = ToySpec(log=tmp_path / "log"), population(20)
    with pool_of(2, spec) as pool:
        for _ in range(2):
            assert landed(pool, tasks_of(rows, 7)) == expected(rows, 7)
        assert len(set(pool.pids)) == 2
    assert begun(spec) == dict.fromkeys(range(20), 2)


def test_killing_actors_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """What is scored again is the part that was lost, at most."""
    rng, kills = random.Random(0), 3
    spec, rows, parts = ToySpec(log=tmp_path / "log", pause=0.02), population(120), 12
    moments, found = [35 * turn + rng.randrange(8) for turn in range(kills)], dict[Place, Any]()
    with pool_of(2, spec) as pool:
        for place, result in pool.run(tasks_of(rows, parts)):
            assert place not in found
            found[place] = result[0]
            if len(found) in moments:
                time.sleep(rng.random() * 0.02)
                os.kill(rng.choice([pid for pid in pool.pids if pid]), signal.SIGKILL)
    assert found == expected(rows, parts)
    counts = begun(spec)
    assert sorted(counts) == list(range(120))
    assert 0 < sum(counts.values()) - 120 <= kills * (120 // parts)
    assert max(counts.values()) <= 2


def test_what_two_actors_die_on_is_lost_and_nothing_else(tmp_path: Path) -> None:
    spec, rows = ToySpec(log=tmp_path / "log"), population(12, kinds={5: POISON})
    with pool_of(2, spec) as pool:
        found = landed(pool, tasks_of(rows, 2))
    lost = found.pop((0, 5))
    assert isinstance(lost, Lost)
    assert lost.reason.startswith("2 workers died on it, the last with the end of its process on ")
    assert lost.reason.endswith(", as when memory runs out")
    assert found == {place: v for place, v in expected(rows, 2).items() if place != (0, 5)}
    assert begun(spec)[5] == 2


def test_an_actor_that_falls_silent_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, rows = ToySpec(log=tmp_path / "log"), population(4, kinds={2: FAINT})
    with pool_of(2, spec) as pool:
        while "2 of 2 workers" not in str(pool):
            list(pool.run(tasks_of(population(1), 1)))
        spec.log.unlink()
        monkeypatch.setattr(worker, "SILENT_SECONDS", 8.0)
        assert landed(pool, tasks_of(rows, 4)) == expected(rows, 4)
    assert begun(spec)[2] == 2


def test_actors_that_cannot_start_end_the_search_in_one_sentence(tmp_path: Path) -> None:
    rule = "must be processes that can be started.*SystemExit: it has no place to work"
    with (
        pool_of(2, ToySpec(log=tmp_path / "log", starts=False)) as pool,
        pytest.raises(RunError, match=rule),
    ):
        landed(pool, tasks_of(population(4), 2))


def test_an_actor_of_another_model_is_refused(tmp_path: Path) -> None:
    with (
        pool_of(1, ToySpec(log=tmp_path / "log"), model="real") as pool,
        pytest.raises(ModelError, match="must score what the search does, got model toy instead"),
    ):
        landed(pool, tasks_of(population(4), 2))


def test_an_actor_of_another_planner_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is told anything, for its own messages may be other ones."""
    theirs = own_version()
    monkeypatch.setattr(ray_worker, "own_version", lambda: "9.9.9 (0badc0de)")
    rule = f"a worker must be of this planner, 9.9.9 (0badc0de), got {theirs}; install the same"
    with (
        pool_of(1, ToySpec(log=tmp_path / "log")) as pool,
        pytest.raises(InputError, match=f"on {gethostname()}, {re.escape(rule)}"),
    ):
        landed(pool, tasks_of(population(4), 2))
    assert not (tmp_path / "log").exists()


def test_what_an_actor_refuses_is_raised_as_it_is(tmp_path: Path) -> None:
    rows = population(4, kinds={1: REFUSAL})
    with (
        pool_of(2, ToySpec(log=tmp_path / "log")) as pool,
        pytest.raises(InputError, match="text must be there, got none; set `--data`"),
    ):
        landed(pool, tasks_of(rows, 2))


def test_a_defect_of_an_actor_is_raised_with_its_traceback(tmp_path: Path) -> None:
    (task,) = tasks_of(population(4), 1)
    with (
        pool_of(1, ToySpec(log=tmp_path / "log")) as pool,
        pytest.raises(RuntimeError, match=r"a worker failed\nTraceback[^$]*'Toy' object has no"),
    ):
        landed(pool, [replace(task, method="sample")])


def test_what_an_actor_cannot_read_is_raised_with_its_traceback() -> None:
    with (
        pool_of(1, Unreadable()) as pool,
        pytest.raises(RuntimeError, match=r"a worker failed\nTraceback[^$]*tests.no_such_module"),
    ):
        landed(pool, tasks_of(population(4), 1))
