"""The sensitivity prior of a run, as its settings say."""

from collections.abc import Sequence
from typing import cast, get_args

from planner.preparation.dense_model import DenseModel
from planner.preparation.pruning_methods import Makers
from planner.settings.search import SearchSettings
from search_spaces.errors import SettingsError
from search_spaces.priors import AllocationName
from search_spaces.priors.sensitivity import (
    Guess,
    guess_after_repair,
    guess_by_allocation,
    guess_by_depth,
    guess_by_energy,
    guess_by_ranking,
)
from search_spaces.space.build import lay_out_variants
from search_spaces.space.orders import Orders
from search_spaces.statistics import Statistics


def make_prior(
    dense: DenseModel,
    settings: SearchSettings,
    makers: Makers,
    statistics: Sequence[Statistics],
    orders: Orders,
) -> Guess:
    """Guess what cuts do, as the settings say.

    Raises:
        SettingsError: Where the ranking is to guess and cannot be compared across sub-blocks.
    """
    structure, name = dense.structure, settings.guess
    variants = lay_out_variants(
        structure.sub_blocks, settings.choices, settings.patterns, settings.mlp_step
    )
    energy = guess_by_energy(structure, statistics, variants)
    if makers.fits:
        energy = guess_after_repair(energy, structure, statistics, orders.members)
    if makers.depth is not None:
        whole = settings.choices.layers
        return guess_by_depth(energy, structure, statistics, makers.depth, whole_layers=whole)
    if name in get_args(AllocationName):
        method = cast("AllocationName", name)
        return guess_by_allocation(energy, structure, statistics, variants, method)
    if name == "energy":
        return energy
    if not makers.ranking.comparable:
        raise SettingsError(
            "`guess ranking` needs a ranking whose scores compare across layers, got "
            f"`{settings.ranking}`; set `--ranking flap` or `--guess energy`"
        )
    return guess_by_ranking(energy, structure, statistics, makers.ranking)
