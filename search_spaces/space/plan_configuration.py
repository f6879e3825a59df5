"""From a plan back to the configuration of each component."""

import numpy as np
from numpy.typing import NDArray

from search_spaces.space.block_options import PLAIN, Variant, variants_of
from search_spaces.space.configuration import Forms, forms_of, unit_counts
from search_spaces.space.orders import Orders
from search_spaces.space.plan import Plan
from search_spaces.structure.components import SubBlock
from search_spaces.structure.model import ModelStructure


def plan_orders(structure: ModelStructure, plan: Plan) -> Orders:
    """Give orders in which what a plan keeps comes first.

    Raises:
        PlanError: Where the plan's sites are not the model's.
    """
    blocks = structure.sub_blocks
    members: list[NDArray[np.int_]] = []
    channels: dict[int, NDArray[np.int_]] = {}
    for position, (block, kept) in enumerate(zip(blocks, plan.kept_units(blocks), strict=True)):
        gone = np.ones(block.member_count, dtype=np.bool_)
        gone[kept] = False
        first = np.arange(block.group_count)[:, None] * block.unit_count
        members.append((first + _kept_first(gone.reshape(block.group_count, -1))).ravel())
        own = plan.thinned(block).channels
        if block.experts is not None and own is not None:
            gone = np.ones((block.member_count, block.experts.channel_count), dtype=np.bool_)
            gone[kept[:, None], own] = False
            channels[position] = _kept_first(gone)
    return Orders(members=tuple(members), channels=channels)


def _kept_first(gone: NDArray[np.bool_]) -> NDArray[np.int_]:
    """Give the positions along the last axis, those that stay before those that go."""
    return gone.argsort(axis=1, kind="stable")


def plan_variants(structure: ModelStructure, plan: Plan) -> tuple[tuple[Variant, ...], ...]:
    """Give the ways of thinning out that a plan with dense weights needs, for each sub-block."""
    return tuple(
        variants_of() if own == PLAIN else (PLAIN, own)
        for own in (_variant(plan, block) for block in structure.sub_blocks)
    )


def plan_forms(structure: ModelStructure, plan: Plan) -> Forms:
    """Give the forms ``(sub_blocks,)`` of a plan with dense weights, among `plan_variants`.

    Raises:
        PlanError: Where the plan's sites are not the model's.
    """
    blocks = structure.sub_blocks
    kept = [
        len(members) // block.group_count
        for members, block in zip(plan.kept_units(blocks), blocks, strict=True)
    ]
    thinned = [int(_variant(plan, block) != PLAIN) for block in blocks]
    return forms_of(np.array(kept), np.array(thinned), unit_counts(blocks))


def _variant(plan: Plan, block: SubBlock) -> Variant:
    own = plan.thinned(block)
    channels = 0 if own.channels is None else own.channels.shape[1]
    return Variant(channels=channels, top_k=own.top_k)
