"""UnitImportance files: what a run of before wrote is still read."""

from pathlib import Path

import numpy as np
import pytest

from planner.preparation.ranking_file import saved_prior
from search_spaces.errors import RunError
from tests.models.mixed_configurations import space_of
from tests.models.moe_families import mixture


@pytest.mark.parametrize("key", ["variants", "patterns"])
def test_harms_are_read_under_both_names(key: str, tmp_path: Path) -> None:
    space = space_of(mixture("mixtral"), "heads")
    arrays = {}
    for number, component in enumerate(space.components):
        arrays[f"{component.name}.harm"] = np.full(component.unit_count, float(number))
        arrays[f"{component.name}.{key}"] = np.array([0.0, float(number)])
    np.savez(tmp_path / "ranking.npz", allow_pickle=False, **arrays)
    guess = saved_prior(tmp_path / "ranking.npz", space)
    assert [own.tolist() for own in guess.block_options] == [[0.0, number] for number in range(8)]
    assert [own[0] for own in guess.units] == list(range(8))


def test_a_file_without_harms_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "ranking.npz", allow_pickle=False, odd=np.zeros(1))
    with pytest.raises(RunError, match="must hold what cuts were guessed to do"):
        saved_prior(tmp_path / "ranking.npz", space_of(mixture("mixtral"), "heads"))
