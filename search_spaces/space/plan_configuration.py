"""From a plan to the configuration of each component of a model sorted for it."""

import numpy as np
from numpy.typing import NDArray

from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions, combined_options
from search_spaces.space.configuration import Configurations, ConfigurationTables
from search_spaces.space.orders import Orders
from search_spaces.space.plan import Plan
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure


def plan_orders(structure: ModelStructure, plan: Plan) -> Orders:
    """Return orders in which what a plan keeps comes first.

    Raises:
        PlanError: If the plan's sites are not the model's.
    """
    components = structure.components
    members: list[NDArray[np.int_]] = []
    channels: dict[int, NDArray[np.int_]] = {}
    for position, (component, kept_units) in enumerate(
        zip(components, plan.kept_units(components), strict=True)
    ):
        pruned = np.ones(component.member_count, dtype=np.bool_)
        pruned[kept_units] = False
        group_starts = np.arange(component.group_count)[:, None] * component.unit_count
        by_group = _kept_first(pruned.reshape(component.group_count, -1))
        members.append((group_starts + by_group).ravel())
        kept_channels = plan.expert_pruning(component).channels
        if kept_channels is not None:
            shape = (component.member_count, component.channel_count)
            pruned = np.ones(shape, dtype=np.bool_)
            pruned[kept_units[:, None], kept_channels] = False
            channels[position] = _kept_first(pruned)
    return Orders(members=tuple(members), channels=channels)


def _kept_first(pruned: NDArray[np.bool_]) -> NDArray[np.int_]:
    """Return the positions along the last axis, the kept ones before the pruned ones."""
    return pruned.argsort(axis=1, kind="stable")


def plan_options(structure: ModelStructure, plan: Plan) -> tuple[tuple[BlockOptions, ...], ...]:
    """Return the options that each component needs for a plan with dense weights."""
    return tuple(
        combined_options() if options == DENSE_OPTIONS else (DENSE_OPTIONS, options)
        for options in (_options(plan, component) for component in structure.components)
    )


def plan_configurations(structure: ModelStructure, plan: Plan) -> Configurations:
    """Return the configurations ``(components,)`` of a plan with dense weights.

    Their options are those of `plan_options`.

    Raises:
        PlanError: If the plan's sites are not the model's.
    """
    components, block_options = structure.components, plan_options(structure, plan)
    counts = [
        len(members) // component.group_count
        for members, component in zip(plan.kept_units(components), components, strict=True)
    ]
    last_options = [len(options) - 1 for options in block_options]
    tables = ConfigurationTables.of(components, block_options)
    return tables.index(np.array(counts), np.array(last_options))


def _options(plan: Plan, component: Component) -> BlockOptions:
    return plan.sites[component.name].options(component.channel_count)
