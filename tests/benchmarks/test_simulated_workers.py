"""The pool on a simulated clock: what it does is known by hand, and repeats."""

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.simulated_workers import Prefixes, alone, simulate
from evaluators.backends.population_cut import PopulationCutter
from evaluators.scoring.passes.population_pass import HEADS_AT_ONCE
from evaluators.scoring.steps import Step
from search_spaces.space.configuration import Configurations

DEPTH, READING = 24, 2.0


class Known:
    """Each component takes a second, or as much as its configuration says.

    Args:
        factors: Of the candidates that begin with a configuration: what was not foreseen.
    """

    reading = READING

    def __init__(self, factors: dict[int, float] | None = None) -> None:
        self._factors = factors or {}

    def walk(self, configurations: Configurations, run: Prefixes) -> tuple[float, Prefixes]:
        stops = range(1, len(configurations) + 1)
        new = {configurations[:stop].tobytes() for stop in stops} - run
        return len(new) * self._factors.get(int(configurations[0]), 1.0), new


def cutter() -> PopulationCutter:
    steps = [Step(position, position, position + 1) for position in range(DEPTH)]
    return PopulationCutter(steps, [np.ones(4)] * DEPTH, READING)


def diverse(count: int) -> NDArray[np.int_]:
    return np.random.default_rng(0).integers(1, 4, size=(count, DEPTH))


def single_sites() -> NDArray[np.int_]:
    """The dense model with one component of each narrower."""
    return 2 - np.eye(DEPTH, dtype=np.int_)


def test_one_worker_takes_the_work_of_the_whole() -> None:
    for population in (diverse(20), single_sites()):
        whole = cutter().cut(population, 1).whole_work
        assert alone(Known(), population).seconds == pytest.approx(whole)


def test_workers_are_done_when_the_cut_says() -> None:
    """Where all takes as long as is foreseen there is little to be taken over."""
    population = diverse(64)
    cut = cutter().cut(population, 4)
    simulated = simulate(cutter(), Known(), population, 4)
    assert 0.9 * cut.time(4) <= simulated.seconds <= cut.time(4)
    assert simulated == simulate(cutter(), Known(), population, 4)


def test_what_was_not_foreseen_is_taken_over() -> None:
    """A third of the candidates take five times as long as the others."""
    population, times, workers = diverse(64), Known({1: 5.0}), 4
    loads = [0.0] * workers
    for part in cutter().cut(population, workers).parts:
        loads[int(np.argmin(loads))] += alone(times, population[part]).seconds
    simulated = simulate(cutter(), times, population, workers)
    assert simulated.seconds < 0.9 * max(loads)
    assert simulated.seconds >= alone(times, population).seconds / workers
    assert simulated.idle_share < 1 - np.mean(loads) / max(loads)


def test_nobody_takes_over_what_would_be_done_later_so() -> None:
    """All leave the dense model at its end: a prefix that is run anew is dearer than the rest."""
    population = np.full((2 * HEADS_AT_ONCE, DEPTH), 3)
    population[:, -1] = 0
    population[0, 0] = 2
    simulated = simulate(cutter(), Known(), np.unique(population, axis=0), 2)
    assert simulated.seconds == DEPTH + READING


@pytest.mark.parametrize(("workers", "least"), [(8, 0.85), (64, 0.45)])
def test_a_pass_over_single_sites_is_shared_out(workers: int, least: float) -> None:
    population = np.full((3 * DEPTH, DEPTH), 3)
    for level in range(3):
        np.fill_diagonal(population[level * DEPTH : (level + 1) * DEPTH], level)
    efficiency = (
        alone(Known(), population).seconds
        / workers
        / simulate(cutter(), Known(), population, workers).seconds
    )
    assert least < efficiency <= 1.0
