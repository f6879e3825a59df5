"""Ranking files: what an earlier version wrote is still read, and what is damaged refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.preparation.dense_model import open_model
from planner.preparation.order_file import load_prior
from planner.preparation.prepare import run_space
from planner.run import Run
from search_spaces.errors import RunError
from search_spaces.progress import NO_PROGRESS
from tests.models.mixed_configurations import space_of
from tests.models.moe_families import mixture

Array = NDArray[Any]


@pytest.fixture
def run(searched: Path) -> Iterator[Run]:
    with Run.open(searched) as opened:
        yield opened


@pytest.mark.parametrize("key", ["variants", "patterns"])
def test_priors_are_read_under_both_names(key: str, tmp_path: Path) -> None:
    space = space_of(mixture("mixtral"), "heads")
    arrays = {}
    for number, component in enumerate(space.components):
        arrays[f"{component.name}.harm"] = np.full(component.unit_count, float(number))
        arrays[f"{component.name}.{key}"] = np.full(len(space.block_options[number]), 0.5 * number)
    np.savez(tmp_path / "ranking.npz", allow_pickle=False, **arrays)
    prior = load_prior(tmp_path / "ranking.npz", space)
    assert [options[0] for options in prior.options] == [0.5 * number for number in range(8)]
    assert [units[0] for units in prior.units] == list(range(8))


@pytest.fixture
def ranked(searched_copy: Path) -> Path:
    return searched_copy / "ranking.npz"


def _edited(path: Path, key: str, change: Callable[[Array], Array]) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        kept = dict(arrays)
    kept[key] = change(kept[key])
    np.savez(path, allow_pickle=False, **kept)


@pytest.mark.parametrize(
    "change",
    [
        lambda harm: harm * np.nan,
        lambda harm: harm[1:],
        lambda harm: harm[None],
        lambda harm: harm.astype(str),
        lambda harm: harm.astype(complex),
    ],
)
def test_a_prior_that_is_none_of_the_model_is_refused(
    ranked: Path, run: Run, change: Callable[[Array], Array]
) -> None:
    dense = open_model(run.settings, NO_PROGRESS)
    space = run_space(dense, run.settings, ranked.parent)
    load_prior(ranked, space)
    _edited(ranked, f"{space.components[1].name}.harm", change)
    with pytest.raises(RunError, match=r"ranking\.npz` .* no sensitivity prior of this model"):
        load_prior(ranked, space)


@pytest.mark.parametrize(
    "change",
    [
        lambda order: order[1:],
        lambda order: order * 0,
        lambda order: order + 1,
        lambda order: order.astype(float),
        lambda order: order.astype(str),
    ],
)
def test_an_order_that_is_none_of_the_model_is_refused(
    ranked: Path, run: Run, change: Callable[[Array], Array]
) -> None:
    dense = open_model(run.settings, NO_PROGRESS)
    _edited(ranked, dense.structure.components[0].name, change)
    with pytest.raises(RunError, match=r"ranking\.npz` .* no order of the units of this model"):
        run_space(dense, run.settings, ranked.parent)
