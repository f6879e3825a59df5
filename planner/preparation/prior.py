"""The sensitivity prior of a run, as its settings say."""

from collections.abc import Sequence
from typing import cast, get_args

from planner.preparation.dense_model import DenseModel
from planner.preparation.pruning_methods import PruningMethods
from planner.settings.search import SearchSettings
from search_spaces.errors import SettingsError
from search_spaces.priors import AllocationName
from search_spaces.priors.sensitivity import (
    SensitivityPrior,
    prior_after_compensation,
    prior_from_allocation,
    prior_from_energy,
    prior_from_importance,
    prior_from_layer_importance,
)
from search_spaces.space.build import lay_out_options
from search_spaces.space.orders import Orders
from search_spaces.statistics import Statistics


def make_prior(
    dense: DenseModel,
    settings: SearchSettings,
    methods: PruningMethods,
    statistics: Sequence[Statistics],
    orders: Orders,
) -> SensitivityPrior:
    """Compute the sensitivity prior that the settings name.

    Raises:
        SettingsError: If importances are to be the prior but are not comparable across components.
    """
    structure, name = dense.structure, settings.prior
    block_options = lay_out_options(
        structure.components, settings.choices, settings.patterns, settings.mlp_step
    )
    energy = prior_from_energy(structure, statistics, block_options)
    if methods.refits_outputs:
        energy = prior_after_compensation(energy, structure, statistics, orders.members)
    if methods.layer_importance is not None:
        return prior_from_layer_importance(
            energy,
            structure,
            statistics,
            methods.layer_importance,
            whole_layers=settings.choices.layers,
        )
    if name in get_args(AllocationName):
        method = cast("AllocationName", name)
        return prior_from_allocation(energy, structure, statistics, block_options, method)
    if name == "energy":
        return energy
    if not methods.unit_importance.comparable:
        raise SettingsError(
            "`prior importance` needs an importance whose scores compare across layers, got "
            f"`{settings.importance}`; set `--importance flap` or `--prior energy`"
        )
    return prior_from_importance(energy, structure, statistics, methods.unit_importance)
