"""Building the search space of a model: its sites, their levels and the options."""

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from search_spaces.models.identity import ModelIdentity
from search_spaces.space.block_options import (
    DENSE_OPTIONS,
    SITE_NAMES,
    BlockOptions,
    OptionDimension,
    component_options,
)
from search_spaces.space.choices import Choices
from search_spaces.space.configuration import ConfigurationTable, ConfigurationTables, Dimension
from search_spaces.space.holds import HOLDS_ALL, Holds
from search_spaces.space.levels import fine_levels, mlp_levels, stand_in_reach
from search_spaces.space.orders import Orders
from search_spaces.space.sites import Site
from search_spaces.space.space import SearchSpace
from search_spaces.space.sparsity import DENSE, SparsityPattern
from search_spaces.structure.components import Component, ComponentKind

_FREE: frozenset[Dimension] = frozenset()
_SITE_ORDER: tuple[Dimension, ...] = ("units", *SITE_NAMES)


def build_space(  # noqa: PLR0913  (all that a space is built from)
    identity: ModelIdentity,
    components: tuple[Component, ...],
    orders: Orders | Sequence[NDArray[np.int_]],
    *,
    choices: Choices,
    mlp_step: int | None = None,
    patterns: tuple[SparsityPattern, ...] = (DENSE,),
    weights_digest: str = "",
    holds: Holds = HOLDS_ALL,
) -> SearchSpace:
    """Build the search space of a model.

    Sites of a layer come first, layer by layer, then those that layers share.

    Args:
        identity: Of the model.
        components: Of the model, layer by layer.
        orders: For each component its members by falling importance.
        choices: What may be pruned.
        mlp_step: MLP channels between levels; None: chosen for the width.
        patterns: Sparsity patterns that weights may have, the dense one first.
        weights_digest: Written into its plans for weights that are no slices of the dense ones.
        holds: What all plans are held by.
    """
    block_options = lay_out_options(components, choices, patterns, mlp_step, holds)
    tables = ConfigurationTables.of(components, block_options)
    counts = [unit_levels(component, choices, mlp_step, holds) for component in components]
    standing = _stood_in(components, choices)
    tied = _tied(components, holds)
    sites: list[Site] = []
    position = 0
    for _, grouped in groupby(components, key=lambda component: component.layer):
        layer_components = list(grouped)
        layer_counts = counts[position : position + len(layer_components)]
        if _drops_layers(choices, holds) and all(each[0] == 0 for each in layer_counts):
            span = slice(position, position + len(layer_components))
            site = _layer_site(position, layer_components, tables)
            sites.append(_with_stand_in(site) if all(standing[span]) else site)
        for component in layer_components:
            table, of_kind = tables[position], tied.get(component.kind, _FREE)
            own = _own_levels(
                counts[position],
                may_drop=not _drops_layers(choices, holds),
                may_narrow="units" not in of_kind,
            )
            if len(own) > 1:
                site = _unit_site(position, component, table, own)
                may = standing[position] and not own[0]
                sites.append(_with_stand_in(site) if may else site)
            sites += _option_sites(position, component, table, of_kind)
            position += 1
    return SearchSpace(
        identity=identity,
        components=components,
        sites=(*sites, *_shared_sites(components, tables, counts, tied)),
        orders=orders if isinstance(orders, Orders) else Orders(tuple(orders)),
        block_options=block_options,
        weights_digest=weights_digest,
    )


def lay_out_options(
    components: Sequence[Component],
    choices: Choices,
    patterns: Sequence[SparsityPattern] = (DENSE,),
    mlp_step: int | None = None,
    holds: Holds = HOLDS_ALL,
) -> tuple[tuple[BlockOptions, ...], ...]:
    """Return the options of each component, the dense ones first.

    Args:
        components: Of a model.
        choices: What may be pruned.
        patterns: Sparsity patterns, the dense one first.
        mlp_step: Channels between levels; None: chosen for the width.
        holds: What is left out of them.
    """
    reach = stand_in_reach(components) if choices.stand_ins else (0,) * len(components)
    return tuple(
        component_options(component, choices, holds, patterns, mlp_step, most)
        for component, most in zip(components, reach, strict=True)
    )


def _stood_in(components: Sequence[Component], choices: Choices) -> list[bool]:
    """Return for which components the one before them may stand in once they are dropped."""
    reach = stand_in_reach(components)
    return [False, *(choices.stand_ins and most > 0 for most in reach[:-1])]


def _with_stand_in(site: Site) -> Site:
    """Return a site that drops its targets with another level at which they are stood in for."""
    return replace(site, levels=(site.levels[0], *site.levels), stands_in=True)


def unit_levels(
    component: Component, choices: Choices, mlp_step: int | None, holds: Holds = HOLDS_ALL
) -> tuple[int, ...]:
    """Return the numbers of units to choose from in a component, all of them last."""
    if not component.is_droppable:
        return (component.unit_count,)
    counts: tuple[int, ...] = (0, component.unit_count)
    if getattr(choices, str(component.unit_choice)):
        many = component.unit_choice == "channels"
        counts = mlp_levels(component, mlp_step) if many else fine_levels(component)
    drops, formats = choices.drops or choices.layers, holds.formats_of(component)
    return tuple(
        count
        for count in counts
        if count == component.unit_count
        or (
            (count or drops)
            and formats.holds_units(component, count)
            and not holds.refusal(component, count, DENSE_OPTIONS)
        )
    )


def _drops_layers(choices: Choices, holds: Holds) -> bool:
    """Return whether what is dropped is whole layers."""
    return choices.layers or (choices.drops and holds.whole_layers)


def _unit_site(
    position: int, component: Component, table: ConfigurationTable, counts: Sequence[int]
) -> Site:
    configurations = table.index(np.array(counts)).tolist()
    levels = tuple((configuration,) for configuration in configurations)
    return Site(name=component.name, targets=(position,), levels=levels)


def _own_levels(counts: Sequence[int], *, may_drop: bool, may_narrow: bool) -> tuple[int, ...]:
    """Return the numbers of units that a component chooses by itself, all of them last."""
    return tuple(
        count for count in counts if count == counts[-1] or (may_drop if not count else may_narrow)
    )


def _option_sites(
    position: int,
    component: Component,
    table: ConfigurationTable,
    tied: Container[Dimension],
) -> list[Site]:
    """Return a site for each dimension of options along which a component chooses by itself."""
    return [
        Site(
            name=f"{component.name}.{name}",
            targets=(position,),
            # levels ascend to the dense one, which is listed first
            levels=tuple((configuration,) for configuration in found[::-1].tolist()),
            dimension=dimension,
        )
        for dimension, name in SITE_NAMES.items()
        if dimension not in tied and len(found := table.along(dimension)) > 1
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


def _tied(
    components: Sequence[Component], holds: Holds
) -> Mapping[ComponentKind, frozenset[Dimension]]:
    """Return along what all components of a kind share a site, of kinds that several have."""
    counts = Counter(component.kind for component in components)
    return {kind: holds.equal_along(kind) for kind, count in counts.items() if count > 1}


def _shared_sites(
    components: Sequence[Component],
    tables: ConfigurationTables,
    counts: Sequence[Sequence[int]],
    tied: Mapping[ComponentKind, frozenset[Dimension]],
) -> Iterator[Site]:
    """Yield a site for each choice that all components of a kind share; none drops them."""
    for kind, dimensions in tied.items():
        of_kind = [i for i, component in enumerate(components) if component.kind == kind]
        for dimension in sorted(dimensions, key=_SITE_ORDER.index):
            targets = tuple(
                i for i in of_kind if dimension != "cache" or components[i].cached_features
            )
            choices = [
                _kept_counts(tables[target], counts[target])
                if dimension == "units"
                else _values(tables[target], dimension)
                for target in targets
            ]
            # in the order of the first: all that each of them offers
            first: Mapping[object, int] = choices[0] if choices else {}
            shared = [value for value in first if all(value in each for each in choices)]
            if len(shared) > 1:
                yield Site(
                    name=kind if dimension == "units" else f"{kind}.{SITE_NAMES[dimension]}",
                    targets=targets,
                    levels=tuple(tuple(each[value] for each in choices) for value in shared),
                    dimension=dimension,
                )


def _kept_counts(table: ConfigurationTable, counts: Sequence[int]) -> Mapping[object, int]:
    """Return the configuration of each number of units that is offered, but for none."""
    return {count: int(table.index(count)) for count in counts if count}


def _values(table: ConfigurationTable, dimension: OptionDimension) -> Mapping[object, int]:
    """Return the configuration of each value of an option, that of the dense model last."""
    found = table.along(dimension)[::-1].tolist()
    return {getattr(table[one][1], dimension): one for one in found}
