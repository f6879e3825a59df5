"""Checks that a space fits its model: there is something to prune, in sizes kernels accept."""

import numpy as np

from planner.preparation.dense_model import DenseModel
from planner.preparation.pruning_methods import PruningMethods
from planner.preparation.space_of_settings import space_of_settings
from planner.settings.search import SearchSettings
from planner.targets.holding import refusals
from search_spaces.errors import SettingsError
from search_spaces.space.build import unit_levels
from search_spaces.space.levels import ALIGNED_CHANNELS, channel_levels
from search_spaces.space.space import SearchSpace
from search_spaces.space.sparsity import check_patterns


def check_space(dense: DenseModel, settings: SearchSettings) -> None:
    """Refuse a space that does not fit its model.

    Raises:
        SettingsError: If the model cannot be loaded where plans must load; or if the space has no
            site, prunes channels of experts in steps that kernels do not accept, or has patterns
            that do not divide some matrix.
    """
    _check_model(dense, settings)
    _check_sites(dense, settings)
    _check_patterns(dense, settings)


def _check_model(dense: DenseModel, settings: SearchSettings) -> None:
    """Refuse a model that cannot be loaded where plans must load, even if nothing is pruned.

    Raises:
        SettingsError: If it cannot.
    """
    space, components = _space(dense, settings), dense.structure.components
    found = refusals(dense.holds, components, space.plan(space.top_levels))
    if found:
        at = (
            f" at `{found[0].site}`" if found[0].site in {each.name for each in components} else ""
        )
        raise SettingsError(
            f"`loads_in` must name what can hold this model, and {settings.loads_in} cannot{at}: "
            f"{found[0].reason}; set another, or leave it out"
        )
    adds_bias = PruningMethods.of(settings, dense.structure).adds_bias
    if settings.loads_in == "transformers-native" and adds_bias:
        raise SettingsError(
            "`compensate` must add no biases where `--loads_in` is transformers-native, whose "
            f"configs know none of them, got {settings.compensate}; choose obs or least_squares"
        )


def _check_sites(dense: DenseModel, settings: SearchSettings) -> None:
    """Refuse a space without a site.

    Raises:
        SettingsError: If it has none, or prunes channels of experts in steps that kernels do not
            accept.
    """
    choices = settings.space
    if (
        dense.structure.has_experts
        and choices.channels
        and (settings.mlp_step or 0) % ALIGNED_CHANNELS
    ):
        raise SettingsError(
            f"`mlp_step` must be a multiple of {ALIGNED_CHANNELS} where channels of experts are "
            "pruned, because the kernels that run them accept no others, got "
            f"{settings.mlp_step}; raise it"
        )
    sites = _space(dense, settings).sites
    if choices.stand_ins and not any(site.stands_in for site in sites):
        raise SettingsError(
            "`space` stand_ins need `drops` or `layers`, and a model whose attentions and MLPs "
            f"add their outputs as they are, got {choices} and "
            f"{dense.loaded.identity.architecture}; leave it out, or add one of them"
        )
    if sites:
        return
    if settings.loads_in != "any":
        raise SettingsError(
            f"`space` must name something that {settings.loads_in} can hold pruned of this model, "
            f"and of {choices} it can hold nothing; choose others, or another `--loads_in`"
        )
    raise SettingsError(
        f"`space` must name something that this model has, and it has no {settings.space} to "
        "prune; choose others of heads, channels, drops, layers and sparsity"
    )


def _space(dense: DenseModel, settings: SearchSettings) -> SearchSpace:
    """Return the space as settings lay it out, in the order that units have in the model."""
    orders = [np.arange(component.member_count) for component in dense.structure.components]
    identity, structure = dense.loaded.identity, dense.structure
    return space_of_settings(identity, structure, settings, orders, holds=dense.holds)


def _check_patterns(dense: DenseModel, settings: SearchSettings) -> None:
    """Refuse patterns that do not divide the matrices of some level.

    Raises:
        SettingsError: If there are any; it names the matrix and its width.
    """
    for component in dense.structure.components:
        if not component.is_droppable:  # nothing of it is zeroed
            continue
        layer = dense.structure.owner(component)
        units = unit_levels(component, settings.space, settings.mlp_step, dense.holds)
        channels = channel_levels(component, settings.mlp_step) if settings.space.channels else ()
        kept = [count for count in units if count]
        check_patterns(component, layer, kept, channels, settings.patterns)
