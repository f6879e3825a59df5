"""Parts of a population, held against what a tree really runs."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluators.backends.population_cut import PARTS_EACH, PopulationCutter
from evaluators.scoring.prefix_tree import PrefixTree
from evaluators.scoring.steps import Step
from search_spaces.surgery.sort import sorted_as_is
from tests.evaluators.scoring.small_models import candidates, llama
from tests.models import tiny

LAYERS = 12
READING = 2.0


def cutter(parts_each: int = PARTS_EACH) -> PopulationCutter:
    """Of components that each take 1 unless they are dropped."""
    steps = [Step(position // 2, position, position + 1) for position in range(2 * LAYERS)]
    work = [np.array([0.0, 1.0, 1.0])] * len(steps)
    return PopulationCutter(steps, work, READING, parts_each)


def diverse() -> NDArray[np.int_]:
    return np.random.default_rng(0).integers(3, size=(64, 2 * LAYERS))


def single_sites() -> NDArray[np.int_]:
    """The dense model with one component of each narrower."""
    return 2 - np.eye(2 * LAYERS, dtype=np.int_)


def offspring() -> NDArray[np.int_]:
    """Children of four parents, each with one component changed."""
    rng = np.random.default_rng(1)
    grown = np.repeat(diverse()[:4], 16, axis=0)
    places = rng.integers(2 * LAYERS, size=len(grown))
    grown[np.arange(len(grown)), places] = rng.integers(3, size=len(grown))
    return grown


@pytest.mark.parametrize("population", [diverse(), single_sites(), offspring()])
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_each_candidate_is_in_one_part_and_the_dearest_come_first(
    population: NDArray[np.int_], workers: int
) -> None:
    cut = cutter().cut(population, workers)
    assert sorted(np.concatenate(cut.parts).tolist()) == list(range(len(population)))
    assert list(cut.work) == sorted(cut.work, reverse=True)
    assert sum(cut.work) >= cut.whole_work
    assert len(cut.parts) >= workers


def test_the_work_of_a_part_is_what_a_tree_runs_for_it() -> None:
    structure, tree = llama(), PrefixTree(sorted_as_is(llama()))
    work = [
        (np.arange(component.unit_count + 1) > 0).astype(float)
        for component in structure.components
    ]
    population = np.concatenate([candidates(structure, 6)] * 2)
    population[6:, 2:] = candidates(structure, 12)[6:, 2:]  # pairs that share a layer
    cut = PopulationCutter(tree.running_steps, work, 0.0).cut(population, 2)
    assert len(cut.parts) > 1
    with torch.inference_mode():
        inputs = structure.backbone.enter(tiny.windows())
        for part, expected in zip(cut.parts, cut.work, strict=True):
            before = tree.component_runs
            list(tree.walk(population[part], inputs))
            assert tree.component_runs - before == expected


@pytest.mark.parametrize(
    ("population", "workers", "least"),
    [
        (diverse(), 2, 1.9),
        (diverse(), 8, 7.2),
        (offspring(), 2, 1.8),
        (offspring(), 8, 6.0),
        (single_sites(), 2, 1.5),
    ],
)
def test_workers_are_sooner_done_than_one(
    population: NDArray[np.int_], workers: int, least: float
) -> None:
    assert least <= cutter().cut(population, workers).speed_up(workers) <= workers


def test_those_that_share_most_stay_together() -> None:
    families = np.repeat(np.arange(3), 5)[:, None]
    population = np.tile(np.arange(5)[:, None] % 3, (3, 2 * LAYERS))
    population[:, : 2 * LAYERS - 1] = families
    for part in cutter().cut(population, 3).parts:
        assert len(set(families[part, 0].tolist())) == 1


@pytest.mark.parametrize("parts_each", [1, 2])
def test_there_are_no_more_parts_than_each_worker_is_to_have(parts_each: int) -> None:
    cut = cutter(parts_each).cut(diverse(), 4)
    assert 4 <= len(cut.parts) <= 4 * parts_each


def test_one_candidate_is_one_part_and_none_is_none() -> None:
    cut = cutter().cut(diverse()[:1], 4)
    assert [part.tolist() for part in cut.parts] == [[0]]
    assert cut.speed_up(4) == 1.0
    assert cutter().cut(diverse()[:0], 4).parts == ()
