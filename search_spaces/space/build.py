"""Building the search space of a model: its sites, their levels and the options."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from search_spaces.models.identity import ModelIdentity
from search_spaces.space.block_options import SITE_NAMES, BlockOptions, component_options
from search_spaces.space.choices import Choices
from search_spaces.space.configuration import ConfigurationTable, ConfigurationTables
from search_spaces.space.levels import fine_levels, mlp_levels
from search_spaces.space.orders import Orders
from search_spaces.space.space import SearchSpace, Site
from search_spaces.space.sparsity import DENSE, SparsityPattern
from search_spaces.structure.components import Component


def build_space(  # noqa: PLR0913  (all that a space is built from)
    identity: ModelIdentity,
    components: tuple[Component, ...],
    orders: Orders | Sequence[NDArray[np.int_]],
    *,
    choices: Choices,
    mlp_step: int | None = None,
    patterns: tuple[SparsityPattern, ...] = (DENSE,),
    weights_digest: str = "",
) -> SearchSpace:
    """Build the search space of a model.

    Args:
        identity: Of the model.
        components: Of the model, layer by layer.
        orders: For each component its members by falling importance.
        choices: What may be pruned.
        mlp_step: MLP channels between levels; None: chosen for the width.
        patterns: Sparsity patterns that weights may have, the dense one first.
        weights_digest: Written into its plans for weights that are no slices of the dense ones.
    """
    block_options = lay_out_options(components, choices, patterns, mlp_step)
    tables = ConfigurationTables.of(components, block_options)
    sites: list[Site] = []
    position = 0
    for _, grouped in groupby(components, key=lambda component: component.layer):
        layer_components = list(grouped)
        if choices.layers:
            sites.append(_layer_site(position, layer_components, tables))
        for component in layer_components:
            table = tables[position]
            counts = unit_levels(component, choices, mlp_step)
            if len(counts) > 1 and not choices.layers:  # else they are kept, or follow the layer
                sites.append(_unit_site(position, component, table, counts))
            sites += _option_sites(position, component, table)
            position += 1
    return SearchSpace(
        identity=identity,
        components=components,
        sites=tuple(sites),
        orders=orders if isinstance(orders, Orders) else Orders(tuple(orders)),
        block_options=block_options,
        weights_digest=weights_digest,
    )


def lay_out_options(
    components: Sequence[Component],
    choices: Choices,
    patterns: Sequence[SparsityPattern] = (DENSE,),
    mlp_step: int | None = None,
) -> tuple[tuple[BlockOptions, ...], ...]:
    """Return the options of each component, the dense ones first.

    Args:
        components: Of a model.
        choices: What may be pruned.
        patterns: Sparsity patterns, the dense one first.
        mlp_step: Channels between levels; None: chosen for the width.
    """
    return tuple(
        component_options(component, choices, patterns, mlp_step) for component in components
    )


def unit_levels(component: Component, choices: Choices, mlp_step: int | None) -> tuple[int, ...]:
    """Return the numbers of units to choose from in a component, all of them last."""
    counts: tuple[int, ...] = (0, component.unit_count)
    if getattr(choices, component.unit_choice):
        many = component.unit_choice == "channels"
        counts = mlp_levels(component, mlp_step) if many else fine_levels(component)
    drops = choices.drops or choices.layers
    return tuple(count for count in counts if count or drops)


def _unit_site(
    position: int, component: Component, table: ConfigurationTable, counts: Sequence[int]
) -> Site:
    configurations = table.index(np.array(counts)).tolist()
    levels = tuple((configuration,) for configuration in configurations)
    return Site(name=component.name, targets=(position,), levels=levels)


def _option_sites(position: int, component: Component, table: ConfigurationTable) -> list[Site]:
    """Return a site for each dimension of options along which a component has a choice."""
    return [
        Site(
            name=f"{component.name}.{name}",
            targets=(position,),
            # levels ascend to the dense one, which is listed first
            levels=tuple((configuration,) for configuration in found[::-1].tolist()),
            dimension=dimension,
        )
        for dimension, name in SITE_NAMES.items()
        if len(found := table.along(dimension)) > 1
    ]


def _layer_site(
    position: int, components: Sequence[Component], tables: ConfigurationTables
) -> Site:
    targets = range(position, position + len(components))
    return Site(
        name=f"layers.{components[0].layer}",
        targets=tuple(targets),
        levels=(tuple(0 for _ in targets), tuple(tables[target].dense for target in targets)),
    )
