"""Ranking files: what an earlier version wrote is still read."""

from pathlib import Path

import numpy as np
import pytest

from planner.preparation.order_file import load_prior
from search_spaces.errors import RunError
from tests.models.mixed_configurations import space_of
from tests.models.moe_families import mixture


@pytest.mark.parametrize("key", ["variants", "patterns"])
def test_priors_are_read_under_both_names(key: str, tmp_path: Path) -> None:
    space = space_of(mixture("mixtral"), "heads")
    arrays = {}
    for number, component in enumerate(space.components):
        arrays[f"{component.name}.harm"] = np.full(component.unit_count, float(number))
        arrays[f"{component.name}.{key}"] = np.array([0.0, float(number)])
    np.savez(tmp_path / "ranking.npz", allow_pickle=False, **arrays)
    prior = load_prior(tmp_path / "ranking.npz", space)
    assert [options.tolist() for options in prior.options] == [
        [0.0, number] for number in range(8)
    ]
    assert [units[0] for units in prior.units] == list(range(8))


def test_a_file_without_a_prior_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "ranking.npz", allow_pickle=False, odd=np.zeros(1))
    with pytest.raises(RunError, match="must hold the sensitivity prior"):
        load_prior(tmp_path / "ranking.npz", space_of(mixture("mixtral"), "heads"))
