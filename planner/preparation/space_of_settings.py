"""What the settings of a search make of a model: the options of its components, and the space."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from planner.settings.search import SearchSettings
from search_spaces.models.identity import ModelIdentity
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.build import build_space, lay_out_options
from search_spaces.space.holds import Holds
from search_spaces.space.orders import Orders
from search_spaces.space.space import SearchSpace
from search_spaces.structure.model import ModelStructure


def options_of_settings(
    structure: ModelStructure, settings: SearchSettings, holds: Holds
) -> tuple[tuple[BlockOptions, ...], ...]:
    """Return the options that each component of a model chooses among, the dense ones first."""
    return lay_out_options(
        structure.components,
        settings.space,
        settings.patterns,
        settings.mlp_step,
        holds,
    )


def space_of_settings(
    identity: ModelIdentity,
    structure: ModelStructure,
    settings: SearchSettings,
    orders: Orders | Sequence[NDArray[np.int_]],
    *,
    holds: Holds,
    weights_digest: str = "",
) -> SearchSpace:
    """Return the search space of a model.

    Args:
        identity: Of the model.
        structure: Of the model.
        settings: Of the search.
        orders: For each component its members by falling importance.
        holds: What can be held of the model where plans must load.
        weights_digest: As `build_space` takes it.
    """
    return build_space(
        identity,
        structure.components,
        orders,
        choices=settings.space,
        mlp_step=settings.mlp_step,
        patterns=settings.patterns,
        weights_digest=weights_digest,
        holds=holds,
    )
