"""The sensitivity prior of a run, as its settings say."""

from collections.abc import Sequence
from typing import assert_never

import numpy as np

from planner.preparation.dense_model import DenseModel
from planner.preparation.pruning_methods import PruningMethods
from planner.preparation.space_of_settings import options_of_settings
from planner.settings.search import SearchSettings
from search_spaces.errors import ModelError, SettingsError
from search_spaces.priors.sensitivity import (
    Floats,
    SensitivityPrior,
    prior_after_compensation,
    prior_from_allocation,
    prior_from_energy,
    prior_from_importance,
    prior_from_layer_importance,
)
from search_spaces.progress import Progress
from search_spaces.pruned_weights.stand_ins import StandIns
from search_spaces.space.levels import stand_in_reach
from search_spaces.space.orders import Orders
from search_spaces.statistics import LayerStatistics, Statistics


def make_prior(
    dense: DenseModel,
    settings: SearchSettings,
    methods: PruningMethods,
    statistics: Sequence[Statistics],
    orders: Orders,
) -> SensitivityPrior:
    """Compute the sensitivity prior that the settings name.

    Raises:
        ModelError: If weights are so large that it is not finite.
        SettingsError: If importances are to be the prior but are not comparable across components.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        prior = _named_prior(dense, settings, methods, statistics, orders)
    for position, component in enumerate(dense.structure.components):
        if not (
            np.isfinite(prior.units[position]).all() and np.isfinite(prior.options[position]).all()
        ):
            raise ModelError(
                f"sensitivities must be finite, and those of `{component.name}` are not: its "
                "weights or hidden states are too large for float32; get a sound checkpoint"
            )
    return prior


def missed_by_stand_ins(
    dense: DenseModel, statistics: Sequence[Statistics], progress: Progress
) -> Floats:
    """Return what stand-ins for single components leave of their sensitivity, ``(components,)``.

    Args:
        dense: The model.
        statistics: Of each layer, with ``component_output``.
        progress: Advanced with each component.
    """
    components = dense.structure.components
    stand_ins = StandIns(components, LayerStatistics.measured(statistics))
    missed = np.ones(len(components))
    for before, reach in enumerate(stand_in_reach(components)):
        if reach:
            missed[before + 1] = stand_ins.missed(before + 1)
        progress.advance(before + 1, len(components))
    return missed


def _named_prior(
    dense: DenseModel,
    settings: SearchSettings,
    methods: PruningMethods,
    statistics: Sequence[Statistics],
    orders: Orders,
) -> SensitivityPrior:
    structure = dense.structure
    block_options = options_of_settings(structure, settings, dense.holds)
    energy = prior_from_energy(structure, statistics, block_options)
    if methods.refits_outputs:
        energy = prior_after_compensation(energy, structure, statistics, orders.members)
    match settings.prior:
        case "energy":
            return energy
        case "importance":
            if not methods.unit_importance.comparable:
                raise SettingsError(
                    "`prior importance` needs an importance whose scores compare across layers, "
                    f"got `{settings.importance}`; set `--importance flap` or `--prior energy`"
                )
            return prior_from_importance(energy, structure, statistics, methods.unit_importance)
        case "block_influence" | "angular" | "removal":
            assert methods.layer_importance is not None  # made whenever it is the prior
            return prior_from_layer_importance(
                energy,
                structure,
                statistics,
                methods.layer_importance,
                whole_layers=settings.space.layers,
            )
        case "lamp" | "global_magnitude" | "owl" as name:
            return prior_from_allocation(energy, structure, statistics, block_options, name)
        case _:
            assert_never(settings.prior)
