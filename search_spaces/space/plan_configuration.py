"""From a plan back to the configuration of each component."""

import numpy as np
from numpy.typing import NDArray

from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions, combined_options
from search_spaces.space.configuration import Configurations, configurations_of, unit_counts
from search_spaces.space.orders import Orders
from search_spaces.space.plan import Plan
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure


def plan_orders(structure: ModelStructure, plan: Plan) -> Orders:
    """Give orders in which what a plan keeps comes first.

    Raises:
        PlanError: Where the plan's sites are not the model's.
    """
    components = structure.components
    members: list[NDArray[np.int_]] = []
    channels: dict[int, NDArray[np.int_]] = {}
    for position, (component, kept) in enumerate(
        zip(components, plan.kept_units(components), strict=True)
    ):
        gone = np.ones(component.member_count, dtype=np.bool_)
        gone[kept] = False
        first = np.arange(component.group_count)[:, None] * component.unit_count
        members.append((first + _kept_first(gone.reshape(component.group_count, -1))).ravel())
        own = plan.thinned(component).channels
        if component.experts is not None and own is not None:
            gone = np.ones(
                (component.member_count, component.experts.channel_count), dtype=np.bool_
            )
            gone[kept[:, None], own] = False
            channels[position] = _kept_first(gone)
    return Orders(members=tuple(members), channels=channels)


def _kept_first(gone: NDArray[np.bool_]) -> NDArray[np.int_]:
    """Give the positions along the last axis, those that stay before those that go."""
    return gone.argsort(axis=1, kind="stable")


def plan_options(structure: ModelStructure, plan: Plan) -> tuple[tuple[BlockOptions, ...], ...]:
    """Give the ways of thinning out that a plan with dense weights needs, for each component."""
    return tuple(
        combined_options() if own == DENSE_OPTIONS else (DENSE_OPTIONS, own)
        for own in (_options(plan, component) for component in structure.components)
    )


def plan_configurations(structure: ModelStructure, plan: Plan) -> Configurations:
    """Give the forms ``(components,)`` of a plan with dense weights, among `plan_options`.

    Raises:
        PlanError: Where the plan's sites are not the model's.
    """
    components = structure.components
    kept = [
        len(members) // component.group_count
        for members, component in zip(plan.kept_units(components), components, strict=True)
    ]
    thinned = [int(_options(plan, component) != DENSE_OPTIONS) for component in components]
    return configurations_of(np.array(kept), np.array(thinned), unit_counts(components))


def _options(plan: Plan, component: Component) -> BlockOptions:
    own = plan.thinned(component)
    channels = 0 if own.channels is None else own.channels.shape[1]
    return BlockOptions(channels=channels, top_k=own.top_k)
