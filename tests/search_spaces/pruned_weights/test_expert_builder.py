"""Pruned experts: made of sorted statistics as of those of the sorted model."""

import copy
from functools import cache

import numpy as np
import pytest
import torch

from evaluators.collectors import collect_statistics
from search_spaces.pruned_weights.expert_builder import ExpertBuilder
from search_spaces.pruned_weights.expert_merging import ExpertMerging
from search_spaces.pruned_weights.sparsifiers import make_sparsifier
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.orders import Orders
from search_spaces.space.sorted_model import SortedModel
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import LayerStatistics, StatisticName, Statistics
from search_spaces.structure.mixture import Mixture
from search_spaces.surgery.sort import sort_units_, sorted_as_is
from tests.models.candidates import random_tokens
from tests.models.moe_families import mixture

WANTED: frozenset[StatisticName] = frozenset(
    {"expert_frequency", "routing_gram", "expert_input_energy", "expert_channel_energy"}
)
LAYER = 2


@cache
def sorted_model(
    name: str,
) -> tuple[SortedModel, tuple[Statistics, ...], tuple[Statistics, ...]]:
    """Return a sorted model, and statistics from before and after it was sorted."""
    structure = copy.deepcopy(mixture(name))
    rng = np.random.default_rng(0)
    members, channels = [], {}
    for position, component in enumerate(structure.components):
        by_group = [
            group * component.unit_count + rng.permutation(component.unit_count)
            for group in range(component.group_count)
        ]
        members.append(np.concatenate(by_group))
        if isinstance(component, Mixture):
            width = (component.member_count, component.channel_count)
            channels[position] = rng.permuted(np.tile(np.arange(width[1]), (width[0], 1)), axis=1)
    orders = Orders(members=tuple(members), channels=channels)
    tokens = random_tokens(3, 16)
    before = collect_statistics(structure, tokens, WANTED)
    after = sort_units_(structure, orders)
    return after, before, collect_statistics(structure, tokens, WANTED)


def expert_builder(
    of: SortedModel, statistics: tuple[Statistics, ...], *, merges: bool = True
) -> ExpertBuilder:
    return ExpertBuilder(
        of,
        LayerStatistics.measured(statistics),
        merging=ExpertMerging() if merges else None,
        sparsifier=make_sparsifier("moe_pruner"),
    )


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
