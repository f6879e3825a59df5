"""Laying out the sites of a model, as its user says what may be cut."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from search_spaces.models.identity import ModelIdentity
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions, combined_options
from search_spaces.space.choices import Choices
from search_spaces.space.levels import (
    attention_levels,
    channel_levels,
    expert_levels,
    mlp_levels,
    top_k_levels,
)
from search_spaces.space.orders import Orders
from search_spaces.space.space import SearchSpace, Site, SiteKind
from search_spaces.space.sparsity import DENSE, SparsityPattern
from search_spaces.structure.components import Component


def build_space(  # noqa: PLR0913  (all that a space is laid out from)
    identity: ModelIdentity,
    components: tuple[Component, ...],
    orders: Orders | Sequence[NDArray[np.int_]],
    *,
    choices: Choices,
    mlp_step: int | None = None,
    patterns: tuple[SparsityPattern, ...] = (DENSE,),
    weights_digest: str = "",
) -> SearchSpace:
    """Lay out the sites of a model.

    Args:
        identity: Whose space it is.
        components: Those of each layer in turn.
        orders: For each component its members from the last to go to the first to go.
        choices: What may be cut.
        mlp_step: MLP channels a level; none: chosen for the width.
        patterns: Of sparsity that weights may have, the dense one first.
        weights_digest: What its plans say of weights that are not the dense model's own.
    """
    block_options = lay_out_options(components, choices, patterns, mlp_step)
    sites: list[Site] = []
    position = 0
    for _, grouped in groupby(components, key=lambda component: component.layer):
        of_layer = list(grouped)
        if choices.layers:
            sites.append(_layer_site(position, of_layer))
        for component in of_layer:
            sites += _own_sites(position, component, choices, mlp_step)
            sites += _option_sites(position, component, block_options[position])
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
    """Give for each component how it may be thinned out, the dense way first.

    Args:
        components: Of a model.
        choices: What may be cut.
        patterns: Of sparsity, the dense one first.
        mlp_step: Channels a level; none: chosen for the width.
    """

    def block_options(component: Component) -> tuple[BlockOptions, ...]:
        if component.experts is None:
            return combined_options(patterns)
        channels = channel_levels(component, mlp_step)[:-1] if choices.channels else ()
        top_ks = top_k_levels(component)[:-1] if choices.top_k else ()
        return combined_options(patterns, (0, *channels), (0, *top_ks))

    return tuple(map(block_options, components))


def unit_levels(component: Component, choices: Choices, mlp_step: int | None) -> tuple[int, ...]:
    """Give the numbers of units to choose from in a component, all of them the last."""
    finer: tuple[int, ...] = (0, component.unit_count)
    if component.kind == "attention" and choices.heads:
        finer = attention_levels(component)
    elif component.kind == "experts" and choices.experts:
        finer = expert_levels(component)
    elif component.kind in ("mlp", "shared") and choices.channels:
        finer = mlp_levels(component, mlp_step)
    drops = choices.drops or choices.layers
    return tuple(count for count in finer if count or drops)


def _own_sites(
    position: int, component: Component, choices: Choices, mlp_step: int | None
) -> list[Site]:
    """Give the site of a component's units; none where they all stay, or go with the layer."""
    kept = unit_levels(component, choices, mlp_step)
    if choices.layers or len(kept) == 1:
        return []
    levels = tuple((count,) for count in kept)
    return [Site(name=component.name, targets=(position,), levels=levels)]


def _option_sites(
    position: int, component: Component, block_options: Sequence[BlockOptions]
) -> list[Site]:
    """Give a site for each way in which a component may be thinned out."""
    kinds: tuple[tuple[SiteKind, str], ...] = (
        ("channels", "channels"),
        ("top_k", "top_k"),
        ("pattern", "weights"),
    )
    sites = []
    for kind, name in kinds:
        alone = [
            index
            for index, options in enumerate(block_options)
            if options == BlockOptions(**{kind: getattr(options, kind)})
            and options != DENSE_OPTIONS
        ]
        if alone:
            whole = component.unit_count
            # patterns come from the densest on, counts from the smallest
            below = reversed(alone) if kind == "pattern" else alone
            configurations = [whole + index * (whole + 1) for index in below]
            levels = tuple((configuration,) for configuration in [*configurations, whole])
            site = Site(
                name=f"{component.name}.{name}", targets=(position,), levels=levels, kind=kind
            )
            sites.append(site)
    return sites


def _layer_site(position: int, components: Sequence[Component]) -> Site:
    return Site(
        name=f"layers.{components[0].layer}",
        targets=tuple(range(position, position + len(components))),
        levels=(
            tuple(0 for _ in components),
            tuple(component.unit_count for component in components),
        ),
    )
