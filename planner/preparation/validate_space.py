"""Checks that a space fits its model: there is something to prune, in sizes kernels accept."""

from planner.preparation.dense_model import DenseModel
from planner.settings.search import SearchSettings
from search_spaces.errors import SettingsError
from search_spaces.space.build import lay_out_options, unit_levels
from search_spaces.space.levels import ALIGNED_CHANNELS, channel_levels
from search_spaces.space.validate import check_patterns


def check_space(dense: DenseModel, settings: SearchSettings) -> None:
    """Refuse a space that does not fit its model.

    Raises:
        SettingsError: If it has no site, prunes channels of experts in steps that kernels do not
            accept, or has patterns that do not divide some matrix.
    """
    _check_sites(dense, settings)
    _check_patterns(dense, settings)


def _check_sites(dense: DenseModel, settings: SearchSettings) -> None:
    """Refuse a space without a site.

    Raises:
        SettingsError: If it has none, or prunes channels of experts in steps that kernels do not
            accept.
    """
    components, choices = dense.structure.components, settings.space
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
    levels = [unit_levels(component, choices, settings.mlp_step) for component in components]
    block_options = lay_out_options(components, choices, settings.patterns, settings.mlp_step)
    if all(len(choices_of_component) == 1 for choices_of_component in [*levels, *block_options]):
        raise SettingsError(
            f"`space` must name something that this model has, and it has no {settings.space} to "
            "prune; choose others of heads, channels, drops, layers and sparsity"
        )


def _check_patterns(dense: DenseModel, settings: SearchSettings) -> None:
    """Refuse patterns that do not divide the matrices of some level.

    Raises:
        SettingsError: If there are any; it names the matrix and its width.
    """
    for component in dense.structure.components:
        layer = dense.structure.backbone.layers[component.layer]
        units = unit_levels(component, settings.space, settings.mlp_step)
        channels = channel_levels(component, settings.mlp_step) if settings.space.channels else ()
        kept = [count for count in units if count]
        check_patterns(component, layer, kept, channels, settings.patterns)
