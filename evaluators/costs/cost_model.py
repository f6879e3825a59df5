"""Costs of candidates, in every cost metric at once."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np

from evaluators.costs.active import ACTIVE, active_table
from evaluators.costs.as_stored import as_stored
from evaluators.costs.cost_table import Floats, total
from evaluators.costs.expert_bytes import LOADING, loading_table
from evaluators.costs.kv import KV, kv_table
from evaluators.costs.latency import LATENCY, THROUGHPUT, latency_cost_table
from evaluators.costs.macs import MACS, macs_table
from evaluators.costs.nonzero import NONZERO, nonzero_table
from evaluators.costs.packed import PACKED, packed_table
from evaluators.costs.params import PARAMS, params_table
from evaluators.costs.size import SIZE, size_table
from evaluators.latency.latency_table import LatencyTable
from search_spaces.models.stored import StoredFormat
from search_spaces.space.block_options import BlockOptions, combined_options
from search_spaces.space.configuration import Configurations, dense_configurations
from search_spaces.space.space import SearchSpace
from search_spaces.structure.model import ModelStructure


class CostModel:
    """The costs of every candidate of one model.

    Latency and throughput if it has a table; active parameters, and bytes of experts read for a
    token, if the model has experts.

    Args:
        structure: The model.
        stored: Number formats of its weights on disk, and so of an export's.
        context: Tokens that a token attends to, for the multiply–accumulates of attention.
        block_options: For each component its options, the dense one first; None: that alone.
        adds_bias: Whether pruned components gain a bias.
    """

    def __init__(
        self,
        structure: ModelStructure,
        *,
        stored: StoredFormat,
        context: int,
        block_options: Sequence[Sequence[BlockOptions]] | None = None,
        adds_bias: bool = False,
    ) -> None:
        self._structure = structure
        self.block_options = options = tuple(
            block_options or [combined_options()] * len(structure.components)
        )
        self.table: LatencyTable | None = None
        params = params_table(structure, options, adds_bias=adds_bias)
        on_disk = as_stored(structure, stored)
        size = size_table(on_disk, options, adds_bias=adds_bias)
        self._cost_tables = {
            PARAMS.name: params,
            SIZE.name: size,
            MACS.name: macs_table(structure, options, context),
            KV.name: kv_table(structure, options, stored.dtype),
            # zeros make no dense kernel faster: only what is stored can shrink
            NONZERO.name: nonzero_table(params, structure, options),
            PACKED.name: packed_table(size, on_disk, options),
        }
        if structure.has_experts:
            self._cost_tables |= {
                ACTIVE.name: active_table(structure, options, adds_bias=adds_bias),
                LOADING.name: loading_table(on_disk, options, size),
            }

    def timed(self, table: LatencyTable) -> Self:
        """Return a cost model of the same model that has latency and throughput too."""
        timed = copy.copy(self)
        timed.table = table
        latency = latency_cost_table(self._structure, self.block_options, table)
        timed._cost_tables = self._cost_tables | {LATENCY.name: latency}
        return timed

    def costs(self, configurations: Configurations) -> Mapping[str, Floats]:
        """Return each metric's cost ``(candidates,)``.

        Args:
            configurations: ``(candidates, components)``
        """
        costs = {
            name: total(cost_table, self._structure, configurations)
            for name, cost_table in self._cost_tables.items()
        }
        if self.table is not None:
            workload = self.table.setting.workload
            costs[THROUGHPUT.name] = workload.throughput(costs[LATENCY.name])
        return costs

    def dense(self) -> Mapping[str, float]:
        """Return the dense model's cost in each metric."""
        dense = dense_configurations(self._structure.components)
        return {name: float(cost[0]) for name, cost in self.costs(dense[None]).items()}

    def joint_costs(
        self, metric: str, space: SearchSpace
    ) -> tuple[tuple[tuple[int, ...], Floats], ...]:
        """Return, for each group of sites, the cost of each combination of their levels.

        Norms that two components share are left out.

        Returns:
            For each group the positions of its sites, and a table with an axis for each of them.
        """
        tables = self._cost_tables[metric].tables
        return tuple((group, _joint_table(space, group, tables)) for group in space.groups)


def _joint_table(space: SearchSpace, group: tuple[int, ...], tables: Sequence[Floats]) -> Floats:
    """Sum the costs of the targets of some sites at each combination of their levels."""
    targets = sorted({target for site in group for target in space.sites[site].targets})
    # a space of these alone, whose configurations are quick to enumerate
    alone = replace(
        space,
        components=tuple(space.components[target] for target in targets),
        block_options=tuple(space.block_options[target] for target in targets),
        sites=tuple(
            replace(site, targets=tuple(map(targets.index, site.targets)))
            for site in (space.sites[position] for position in group)
        ),
    )
    shape = [len(site.levels) for site in alone.sites]
    configurations = alone.configurations(np.indices(shape).reshape(len(shape), -1).T)
    costs = sum(
        tables[target][configuration]
        for target, configuration in zip(targets, configurations.T, strict=True)
    )
    return np.reshape(costs, shape)
