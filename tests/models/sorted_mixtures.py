"""Mixtures in a random pruning order, and what makes their weights."""

import copy
from functools import cache

import numpy as np

from evaluators.collectors import collect_statistics
from search_spaces.pruned_weights.expert_builder import ExpertBuilder
from search_spaces.pruned_weights.expert_merging import ExpertMerging
from search_spaces.pruned_weights.quantizers.protocol import Quantizer
from search_spaces.pruned_weights.sparsifiers import make_sparsifier
from search_spaces.space.orders import Orders
from search_spaces.space.sorted_model import SortedModel
from search_spaces.statistics import LayerStatistics, StatisticName, Statistics
from search_spaces.structure.mixture import Mixture
from search_spaces.surgery.sort import sort_units_
from tests.models.candidates import random_tokens
from tests.models.moe_families import mixture

WANTED: frozenset[StatisticName] = frozenset(
    {"expert_frequency", "routing_gram", "expert_input_energy", "expert_channel_energy"}
)


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
    of: SortedModel,
    statistics: tuple[Statistics, ...],
    *,
    merges: bool = True,
    quantizer: Quantizer | None = None,
) -> ExpertBuilder:
    return ExpertBuilder(
        of,
        LayerStatistics.measured(statistics),
        merging=ExpertMerging() if merges else None,
        sparsifier=make_sparsifier("moe_pruner"),
        quantizer=quantizer,
    )
