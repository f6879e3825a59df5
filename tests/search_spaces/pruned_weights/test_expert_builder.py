"""Pruned experts: made of sorted statistics as of those of the sorted model."""

import pytest
import torch

from search_spaces.space.block_options import BlockOptions
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.structure.mixture import Mixture
from search_spaces.surgery.sort import sorted_as_is
from tests.models.sorted_mixtures import expert_builder, sorted_model

LAYER = 2


@pytest.mark.parametrize("name", ["mixtral", "deepseek-v2", "gpt-oss"])
@pytest.mark.parametrize("merging", [True, False], ids=["merged", "lost"])
def test_weights_are_those_of_statistics_of_the_sorted_model(name: str, *, merging: bool) -> None:
    found, before, after = sorted_model(name)
    structure = found.structure
    component = next(
        b for b in structure.components if isinstance(b, Mixture) and b.layer == LAYER
    )
    position = structure.components.index(component)
    options = BlockOptions(pattern=SparsityPattern(percent=50), channels=8)
    count = component.lowest if component.unit_count > 2 else 1
    made = [
        built
        for statistics, own in ((before, found), (after, sorted_as_is(structure)))
        for built in expert_builder(own, statistics, merges=merging).build(
            position, [(count, options)]
        )
    ]
    assert set(made[0]) == set(made[1])
    assert set(made[0]) == {stack.path for stack in component.stacks}
    for path, matrix in made[0].items():
        torch.testing.assert_close(matrix.weight, made[1][path].weight, rtol=1e-5, atol=1e-7)
        zeros = float((matrix.weight == 0).float().mean())
        assert zeros == (0.5 if matrix.weight.ndim == 3 else 0.0)
