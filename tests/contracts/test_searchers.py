"""What every searcher must keep to; a new one adds its name to ``SearcherName`` and is held."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import moocore
import numpy as np
import pytest
from numpy.typing import NDArray

from planner.searchers import SearcherName
from planner.searchers.domain import Cost, Domain
from tests.planner.toy_search import all_genomes, answer, domain, made, points

NAMES: tuple[SearcherName, ...] = get_args(SearcherName)
SEEDED: tuple[SearcherName, ...] = ("nsga2", "random")


def asked(
    name: SearcherName, seed: int, count: int, space: Domain | None = None
) -> list[NDArray[np.int_]]:
    """Ask and tell for some rounds."""
    searcher = made(name, space or domain(), 16, seed)
    batches = []
    for _ in range(count):
        ask = searcher.ask()
        batches.append(ask.genomes)
        if len(ask.genomes):
            sites = ask.genomes.shape[1]
            padded = np.pad(ask.genomes, ((0, 0), (0, 8 - sites)))
            searcher.tell(ask, answer(replace(ask, genomes=padded)))
    return batches


@pytest.mark.parametrize("name", NAMES)
def test_genomes_are_integer_levels_within_bounds_and_new(name: SearcherName) -> None:
    batches = asked(name, 1, 6)
    genomes = np.concatenate(batches)
    assert [batch.shape for batch in batches[:1]] == [(16, 8)]
    assert np.issubdtype(genomes.dtype, np.integer)
    assert (genomes >= 0).all()
    assert (genomes <= 3).all()
    assert len(np.unique(genomes, axis=0)) == len(genomes)


@pytest.mark.parametrize("name", NAMES)
def test_the_dense_end_and_the_floor_are_both_looked_at(name: SearcherName) -> None:
    space = domain(cost_floor=0.5)
    costs = space.cost(np.concatenate(asked(name, 1, 4, space)))
    assert costs.min() >= 0.5 * 0.9
    assert costs.min() < 0.6
    assert costs.max() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_repeats(name: SearcherName) -> None:
    for first, second in zip(asked(name, 5, 6), asked(name, 5, 6), strict=True):
        assert (first == second).all()


@pytest.mark.parametrize("name", SEEDED)
def test_another_seed_differs(name: SearcherName) -> None:
    first, second = (np.concatenate(asked(name, seed, 3)) for seed in (5, 6))
    assert {tuple(row) for row in first} != {tuple(row) for row in second}


@pytest.mark.parametrize("name", SEEDED)
def test_another_process_agrees(name: SearcherName) -> None:
    code = (
        "from tests.contracts.test_searchers import asked;"
        f"print([batch.tolist() for batch in asked({name!r}, 5, 4)])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str([batch.tolist() for batch in asked(name, 5, 4)])


@pytest.mark.parametrize("name", NAMES)
def test_a_small_domain_runs_out_without_repeating(name: SearcherName) -> None:
    space = Domain(
        top_levels=np.array([2, 2]),
        costs=(Cost(tables=(np.array([0.0, 0.2, 0.4]), np.array([0.0, 0.1, 0.4])), fixed=0.2),),
        cost_floor=0.2,
    )
    batches = asked(name, 0, 8, space)
    genomes = np.concatenate(batches)
    assert len(np.unique(genomes, axis=0)) == len(genomes) <= 9
    assert len(batches[-1]) == 0
    assert batches[-1].shape == (0, 2)


def test_nsga2_beats_random_and_nears_the_known_front() -> None:
    def hypervolume(genomes: NDArray[np.int_]) -> float:
        return float(moocore.hypervolume(points(genomes), ref=[2.5, 1.0]))

    best = hypervolume(all_genomes())
    for seed in range(3):
        found = hypervolume(np.concatenate(asked("nsga2", seed, 40)))
        baseline = hypervolume(np.concatenate(asked("random", seed, 40)))
        assert found > baseline
        assert found > 0.975 * best


def test_settings_are_light_and_searchers_are_not_loaded_before_they_are_made() -> None:
    code = "import sys, planner.settings, planner.budget;"
    code += "print({'pymoo', 'numpy', 'torch', 'pandas'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
