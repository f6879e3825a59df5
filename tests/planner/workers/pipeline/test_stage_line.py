"""What passes through stages comes out once, and rightly, whatever becomes of their workers."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.workers.pipeline.pipeline_backend import Passing, Route
from planner.workers.pipeline.stage_line import StageLine, TextBatch
from planner.workers.process_worker import ProcessWorker
from planner.workers.worker_pool import WorkerPool
from search_spaces.errors import ModelError
from tests.planner.workers.pipeline.toy_stage import POISON, ToySpec

PROGRAM = ("-m", "tests.planner.workers.pipeline.toy_stage")
CUT = (range(2), range(2, 4), range(4, 6))
"""Of components; each is a layer."""
BATCHES = ((0, 1), (2,))
PARTS = (((0, 1),), ((2,),))
DENSE = np.ones((1, 6), dtype=np.int_)


class Toy:
    """A pipeline of toy stages.

    Args:
        folder: For its log, and for hidden states.
        pause: Seconds that each hidden state takes.
        dense: Configurations of the dense model.
    """

    def __init__(self, folder: Path, pause: float, dense: NDArray[np.int_]) -> None:
        self.log, self.states = folder / "log", folder / "states"
        self.states.mkdir()
        self.pools = [
            WorkerPool(partial(ProcessWorker, PROGRAM, self._spec(held, pause), 1), 1)
            for held in CUT
        ]
        self.route = Route(
            line=StageLine(self.pools, CUT, self.states),
            text="toy",
            metrics=("kl",),
            running_order=range(6),
            borders=[held.stop for held in CUT],
            dense=dense,
            teachers={},
        )

    def passing(self, rows: NDArray[np.int_], at_once: int = 1000) -> Passing:
        batches = [
            TextBatch(index=index, windows=windows, parts=parts)
            for index, (windows, parts) in enumerate(zip(BATCHES, PARTS, strict=True))
        ]
        return Passing(self.route, rows, batches, window_tokens=1, at_once=at_once)

    def score(self, rows: NDArray[np.int_], at_once: int = 1000) -> dict[int, list[float]]:
        found: dict[int, list[float]] = {}
        for member, score in self.passing(rows, at_once).run():
            assert member not in found
            assert score.failure is None
            found[member] = score.by_window["kl"].tolist()
        return found

    @property
    def crossings(self) -> dict[int, int]:
        """Hidden states that were computed, by the first component of the stage."""
        return Counter(map(int, self.log.read_text().split()))

    @property
    def files(self) -> list[Path]:
        return sorted(self.states.iterdir())

    def _spec(self, held: range, pause: float) -> ToySpec:
        is_last = held.stop == CUT[-1].stop
        return ToySpec(
            start=held.start, stop=held.stop, log=self.log, is_last=is_last, pause=pause
        )


@contextmanager
def toy(folder: Path, *, pause: float = 0.0, dense: NDArray[np.int_] = DENSE) -> Iterator[Toy]:
    made = Toy(folder, pause, dense)
    try:
        yield made
    finally:
        made.route.line.close()


def population(size: int) -> NDArray[np.int_]:
    return np.random.default_rng(0).integers(0, 2, size=(size, 6))


def expected(rows: NDArray[np.int_]) -> dict[int, list[float]]:
    weights = np.arange(1, 7)
    dense_before_last = int(weights[:4].sum())
    found = {}
    for member, row in enumerate(rows):
        taught = [dense_before_last + sum(windows) for windows in BATCHES]
        found[member] = [
            float((row * weights).sum() + sum(windows) + window / 10 - taught[index])
            for index, windows in enumerate(BATCHES)
            for window in windows
        ]
    return found


def check(found: dict[int, list[float]], rows: NDArray[np.int_]) -> None:
    right = expected(rows)
    assert sorted(found) == sorted(right)
    for member, values in found.items():
        np.testing.assert_allclose(values, right[member], rtol=1e-12)


def test_what_candidates_share_crosses_each_border_once(tmp_path: Path) -> None:
    rows = population(24)
    with toy(tmp_path) as made:
        check(made.score(rows), rows)
        distinct = {
            held.start: len(BATCHES) * len(np.unique(rows[:, : held.stop], axis=0)) for held in CUT
        }
        assert made.crossings == distinct
        assert distinct[0] < len(BATCHES) * len(rows)
        assert str(made.route.line).startswith("3 of 3 stages of a pipeline, ")
        assert 0.0 < made.route.line.idle_share < 1.0
        # nothing is kept but what the dense model comes to
        assert made.files == sorted(made.route.teachers.values())
        check(made.score(rows), rows)
        assert sorted(made.route.teachers) == sorted(BATCHES)


def test_hidden_states_are_bounded(tmp_path: Path) -> None:
    rows, at_once = population(24), 4
    most = 0
    with toy(tmp_path) as made:
        found = {}
        for member, score in made.passing(rows, at_once).run():
            found[member] = score.by_window["kl"].tolist()
            most = max(most, len(made.files))
        check(found, rows)
    assert most <= at_once * len(CUT[:-1]) + len(BATCHES)


@pytest.mark.parametrize("seed", range(2))
def test_killing_stages_at_any_moment_loses_nothing(seed: int, tmp_path: Path) -> None:
    rng, rows = random.Random(seed), population(40)
    found = {}
    with toy(tmp_path, pause=0.002) as made:
        for member, score in made.passing(rows).run():
            assert member not in found
            found[member] = score.by_window["kl"].tolist()
            if len(found) in {5, 20}:
                time.sleep(rng.random() * 0.02)
                os.kill(rng.choice(made.pools).pids[0], signal.SIGKILL)
        assert made.files == sorted(made.route.teachers.values())
    check(found, rows)
    once = [len(BATCHES) * len(np.unique(rows[:, : held.stop], axis=0)) for held in CUT]
    # of a stage that died, what it was at and no more is done again
    assert sum(made.crossings.values()) - sum(once) <= 2


def test_what_two_workers_die_on_is_lost_and_nothing_else(tmp_path: Path) -> None:
    rows = population(12)
    rows[[3, 7], :4] = [1, 0, POISON, 1]
    rows[[3, 7], 4] = [0, 1]
    with toy(tmp_path) as made:
        found = dict(made.passing(rows).run())
    lost = {member for member, score in found.items() if score.failure}
    assert lost == {3, 7}
    reason = "2 workers died on it, the last with signal 9, as when memory runs out"
    assert {found[member].failure for member in lost} == {reason}
    assert all(np.isnan(found[member].by_window["kl"]).all() for member in lost)
    assert {score.windows for score in found.values()} == {3}
    sound = {m: s.by_window["kl"].tolist() for m, s in found.items() if m not in lost}
    right = {member: values for member, values in expected(rows).items() if member not in lost}
    np.testing.assert_allclose([sound[m] for m in right], list(right.values()), rtol=1e-12)


def test_a_dense_model_that_workers_die_on_ends_the_search(tmp_path: Path) -> None:
    dense = DENSE.copy()
    dense[0, 2] = POISON
    rule = "dense model must pass through all stages, and 2 workers died on it"
    with toy(tmp_path, dense=dense) as made, pytest.raises(ModelError, match=rule):
        made.score(population(4))


def test_what_nobody_waits_for_is_left(tmp_path: Path) -> None:
    rows: NDArray[np.int_] = population(200)
    with toy(tmp_path, pause=0.01) as made:
        with closing(made.passing(rows).run()) as walk:
            next(walk)
        again = population(4)
        check(made.score(again), again)
    assert made.crossings[4] < len(BATCHES) * len(np.unique(rows, axis=0))
