"""What candidates cost, in every cost metric at once."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch

from evaluators.costs.active import tally_active
from evaluators.costs.cost_table import Floats, total
from evaluators.costs.expert_bytes import tally_loading
from evaluators.costs.kv import tally_kv
from evaluators.costs.latency import tally_latency
from evaluators.costs.macs import tally_macs
from evaluators.costs.nonzero import tally_nonzero
from evaluators.costs.packed import tally_packed
from evaluators.costs.params import tally_params
from evaluators.costs.size import tally_size
from evaluators.latency.latency_table import LatencyTable
from search_spaces.space.block_options import BlockOptions, combined_options
from search_spaces.space.configuration import Configurations, unit_counts
from search_spaces.space.space import SearchSpace
from search_spaces.structure.model import ModelStructure


class CostModel:
    """The costs of every candidate of one model.

    Latency and throughput where it has a table; what is active, and what is loaded for a token,
    where it has experts.

    Args:
        structure: The model.
        stored_dtype: Of its weights on disk, and so of an export's.
        context: Tokens that a token attends to, for the multiply–accumulates of attention.
        block_options: For each component how it may be thinned out, the dense way first; none:
            not.
        adds_bias: Whether components that lose units gain a bias.
    """

    def __init__(
        self,
        structure: ModelStructure,
        *,
        stored_dtype: torch.dtype,
        context: int,
        block_options: Sequence[Sequence[BlockOptions]] | None = None,
        adds_bias: bool = False,
    ) -> None:
        self._structure = structure
        self.block_options = own = tuple(
            block_options or [combined_options()] * len(structure.components)
        )
        self.table: LatencyTable | None = None
        params = tally_params(structure, own, adds_bias=adds_bias)
        size = tally_size(structure, own, stored_dtype, adds_bias=adds_bias)
        self._tallies = {
            "params": params,
            "size": size,
            "macs": tally_macs(structure, own, context),
            "kv": tally_kv(structure, own, stored_dtype),
            # zeros make no dense kernel faster: only what is stored can shrink
            "nonzero": tally_nonzero(params, structure, own),
            "packed": tally_packed(size, structure, own, stored_dtype),
        }
        if structure.has_experts:
            self._tallies |= {
                "active": tally_active(structure, own, adds_bias=adds_bias),
                "loading": tally_loading(structure, own, stored_dtype, size),
            }

    def timed(self, table: LatencyTable) -> Self:
        """Give a cost model of the same model that knows latency and throughput too."""
        timed = copy.copy(self)
        timed.table = table
        latency = tally_latency(self._structure, self.block_options, table)
        timed._tallies = self._tallies | {"latency": latency}
        return timed

    def costs(self, configurations: Configurations) -> Mapping[str, Floats]:
        """Give each metric's cost ``(candidates,)`` of forms ``(candidates, components)``."""
        costs = {
            name: total(tally, self._structure, configurations)
            for name, tally in self._tallies.items()
        }
        if self.table is not None:
            costs["throughput"] = self.table.setting.workload.throughput(costs["latency"])
        return costs

    def dense(self) -> Mapping[str, float]:
        """Give the dense model's cost in each metric."""
        widths = unit_counts(self._structure.components)
        return {name: float(cost[0]) for name, cost in self.costs(widths[None]).items()}

    def joint_costs(
        self, metric: str, space: SearchSpace
    ) -> tuple[tuple[tuple[int, ...], Floats], ...]:
        """Give, for each group of sites, the cost of each combination of their levels.

        Norms that two components share are left out.

        Returns:
            Of each group the positions of its sites, and a table with an axis for each of them.
        """
        tables = self._tallies[metric].tables
        return tuple((group, _joint_table(space, group, tables)) for group in space.groups)


def _joint_table(space: SearchSpace, group: tuple[int, ...], tables: Sequence[Floats]) -> Floats:
    """Add up what the targets of some sites cost at each combination of their levels."""
    targets = sorted({target for site in group for target in space.sites[site].targets})
    # a space of these alone, whose forms are quick to give
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
