"""Laying out the sites of a model, as its user says what may be cut."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from search_spaces.models.identity import ModelIdentity
from search_spaces.space.block_options import PLAIN, Variant, variants_of
from search_spaces.space.choices import Choices
from search_spaces.space.levels import (
    attention_levels,
    channel_levels,
    expert_levels,
    mlp_levels,
    top_k_levels,
)
from search_spaces.space.orders import Orders
from search_spaces.space.space import Dial, SearchSpace, Site
from search_spaces.space.sparsity import DENSE, Pattern
from search_spaces.structure.components import SubBlock


def build_space(  # noqa: PLR0913  (all that a space is laid out from)
    identity: ModelIdentity,
    sub_blocks: tuple[SubBlock, ...],
    orders: Orders | Sequence[NDArray[np.int_]],
    *,
    choices: Choices,
    mlp_step: int | None = None,
    patterns: tuple[Pattern, ...] = (DENSE,),
    repair: str = "",
) -> SearchSpace:
    """Lay out the sites of a model.

    Args:
        identity: Whose space it is.
        sub_blocks: Those of each layer in turn.
        orders: For each sub-block its members from the last to go to the first to go.
        choices: What may be cut.
        mlp_step: MLP channels a level; none: chosen for the width.
        patterns: Of sparsity that weights may have, the dense one first.
        repair: What its plans say of weights that are not the dense model's own.
    """
    variants = lay_out_variants(sub_blocks, choices, patterns, mlp_step)
    sites: list[Site] = []
    position = 0
    for _, grouped in groupby(sub_blocks, key=lambda block: block.layer):
        blocks = list(grouped)
        if choices.layers:
            sites.append(_layer_site(position, blocks))
        for block in blocks:
            sites += _own_sites(position, block, choices, mlp_step)
            sites += _dial_sites(position, block, variants[position])
            position += 1
    return SearchSpace(
        identity=identity,
        sub_blocks=sub_blocks,
        sites=tuple(sites),
        orders=orders if isinstance(orders, Orders) else Orders(tuple(orders)),
        variants=variants,
        repair=repair,
    )


def lay_out_variants(
    sub_blocks: Sequence[SubBlock],
    choices: Choices,
    patterns: Sequence[Pattern] = (DENSE,),
    mlp_step: int | None = None,
) -> tuple[tuple[Variant, ...], ...]:
    """Give for each sub-block how it may be thinned out, the dense way first.

    Args:
        sub_blocks: Of a model.
        choices: What may be cut.
        patterns: Of sparsity, the dense one first.
        mlp_step: Channels a level; none: chosen for the width.
    """

    def variants(block: SubBlock) -> tuple[Variant, ...]:
        if block.experts is None:
            return variants_of(patterns)
        channels = channel_levels(block, mlp_step)[:-1] if choices.channels else ()
        top_ks = top_k_levels(block)[:-1] if choices.top_k else ()
        return variants_of(patterns, (0, *channels), (0, *top_ks))

    return tuple(map(variants, sub_blocks))


def unit_levels(block: SubBlock, choices: Choices, mlp_step: int | None) -> tuple[int, ...]:
    """Give the numbers of units to choose from in a sub-block, all of them the last."""
    finer: tuple[int, ...] = (0, block.unit_count)
    if block.kind == "attention" and choices.heads:
        finer = attention_levels(block)
    elif block.kind == "experts" and choices.experts:
        finer = expert_levels(block)
    elif block.kind in ("mlp", "shared") and choices.channels:
        finer = mlp_levels(block, mlp_step)
    drops = choices.drops or choices.layers
    return tuple(count for count in finer if count or drops)


def _own_sites(
    position: int, block: SubBlock, choices: Choices, mlp_step: int | None
) -> list[Site]:
    """Give the site of a sub-block's units; none where they all stay, or go with the layer."""
    kept = unit_levels(block, choices, mlp_step)
    if choices.layers or len(kept) == 1:
        return []
    levels = tuple((count,) for count in kept)
    return [Site(name=block.name, targets=(position,), levels=levels)]


def _dial_sites(position: int, block: SubBlock, variants: Sequence[Variant]) -> list[Site]:
    """Give a site for each way in which a sub-block may be thinned out."""
    dials: tuple[tuple[Dial, str], ...] = (
        ("channels", "channels"),
        ("top_k", "top_k"),
        ("pattern", "weights"),
    )
    sites = []
    for dial, name in dials:
        alone = [
            index
            for index, variant in enumerate(variants)
            if variant == Variant(**{dial: getattr(variant, dial)}) and variant != PLAIN
        ]
        if alone:
            whole = block.unit_count
            # patterns come from the densest on, counts from the smallest
            below = reversed(alone) if dial == "pattern" else alone
            forms = [whole + index * (whole + 1) for index in below]
            levels = tuple((form,) for form in [*forms, whole])
            site = Site(name=f"{block.name}.{name}", targets=(position,), levels=levels, dial=dial)
            sites.append(site)
    return sites


def _layer_site(position: int, blocks: Sequence[SubBlock]) -> Site:
    return Site(
        name=f"layers.{blocks[0].layer}",
        targets=tuple(range(position, position + len(blocks))),
        levels=(tuple(0 for _ in blocks), tuple(block.unit_count for block in blocks)),
    )
