"""Seconds that were measured of a tree are those of a simulation."""

import numpy as np
import pytest

from benchmarks.component_times import ComponentTimes
from benchmarks.simulated_workers import alone
from evaluators.scoring.batches import Fidelity, WindowBatches
from evaluators.scoring.prefix_tree import PrefixTree
from evaluators.scoring.steps import Step
from search_spaces.surgery.sort import sorted_as_is
from tests.evaluators.scoring.small_models import candidates, llama
from tests.models import tiny


@pytest.fixture(scope="module")
def times() -> ComponentTimes:
    tree = PrefixTree(sorted_as_is(llama()))
    (batch,) = WindowBatches(llama().backbone, tiny.windows(), Fidelity()).of_rung(0)
    return ComponentTimes.measured(tree, candidates(llama(), 6), batch, 0)


def test_what_was_run_before_takes_no_time(times: ComponentTimes) -> None:
    first, second = candidates(llama(), 2)
    seconds, run = times.walk(first, set())
    assert seconds > 0
    assert len(run) == len(first)
    assert times.walk(first, run) == (0, set())
    second[: len(first) - 1] = first[:-1]
    second[-1] = 1 - min(1, first[-1])
    more, new = times.walk(second, run)
    assert 0 < more < seconds
    assert new == {second.tobytes()}


def test_a_population_runs_each_prefix_once_and_reads_each_candidate_out() -> None:
    depth = 3
    times = ComponentTimes([Step(0, i, i + 1) for i in range(depth)], ["mlp"] * depth, 0)
    times.add(np.array([1]), 2.0)
    times.add_reading(7.0)
    population = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1]])
    assert alone(times, population).seconds == (3 + 1 + 3) * 2.0 + 3 * 7.0


def test_a_width_that_was_not_measured_takes_as_long_as_the_nearest() -> None:
    times = ComponentTimes([Step(0, 0, 1), Step(0, 1, 2)], ["attention", "mlp"], 0)
    times.add(np.array([4]), 2.0)
    times.add(np.array([4, 10]), 3.0)
    times.add(np.array([4, 40]), 5.0)
    assert times.walk(np.array([1, 22]), set())[0] == 5.0
    assert times.walk(np.array([9, 33]), set())[0] == 7.0
