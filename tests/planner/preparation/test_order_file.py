"""Ranking files: what was written is read; what is damaged is named, and made again or refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner import search
from planner.preparation.dense_model import open_model
from planner.preparation.order_file import load_prior, order_digest, read_order, write_arrays
from planner.preparation.prepare import is_ranked, run_space
from planner.run import Run
from search_spaces.errors import RunError
from search_spaces.progress import NO_PROGRESS
from tests.models.mixed_configurations import space_of
from tests.models.moe_families import mixture
from tests.settings import SMALL

Array = NDArray[Any]


@pytest.fixture
def run(searched: Path) -> Iterator[Run]:
    with Run.open(searched) as opened:
        yield opened


def test_a_prior_is_read_as_it_was_written(tmp_path: Path) -> None:
    space = space_of(mixture("mixtral"), "heads")
    arrays = {}
    for number, component in enumerate(space.components):
        arrays[f"{component.name}.harm"] = np.full(component.unit_count, float(number))
        arrays[f"{component.name}.variants"] = np.full(
            len(space.block_options[number]), 0.5 * number
        )
    write_arrays(tmp_path / "ranking.npz", arrays)
    prior = load_prior(tmp_path / "ranking.npz", space)
    assert [options[0] for options in prior.options] == [0.5 * number for number in range(8)]
    assert [units[0] for units in prior.units] == list(range(8))


@pytest.fixture
def ranked(searched_copy: Path) -> Path:
    return searched_copy / "ranking.npz"


def _edited(path: Path, key: str, change: Callable[[Array], Array]) -> None:
    arrays = read_order(path)
    write_arrays(path, arrays | {key: change(arrays[key])})


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


def _one_value_off(path: Path) -> None:
    """Change one value of the prior, which a zip's own checksums then agree with."""
    with np.load(path, allow_pickle=False) as arrays:
        kept = dict(arrays)
    key = next(name for name in kept if name.endswith(".harm"))
    kept[key] = kept[key] * 1.001
    np.savez(path, allow_pickle=False, **kept)


def _one_bit_off(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [_one_value_off, _one_bit_off])
def test_what_is_damaged_is_named_and_made_again_by_a_search_alone(
    harm: Callable[[Path], None], ranked: Path, saved_llama: Path, notices: list[str]
) -> None:
    digest = order_digest(ranked)
    harm(ranked)
    with pytest.raises(RunError, match=r"ranking\.npz` must hold the arrays of its run, and"):
        is_ranked(ranked, can_rebuild=False)
    search(str(saved_llama), out=ranked.parent, **SMALL, resume=True).close()
    assert notices.count(f"`{ranked}` is damaged; made anew") == 1
    assert order_digest(ranked) == digest


def test_another_sound_file_is_refused(ranked: Path, saved_llama: Path) -> None:
    key = next(name for name in read_order(ranked) if name.endswith(".harm"))
    _edited(ranked, key, lambda harm: harm * 1.001)
    with pytest.raises(RunError, match=r"ranking\.npz changed since the search: its order and"):
        search(str(saved_llama), out=ranked.parent, **SMALL, resume=True)
