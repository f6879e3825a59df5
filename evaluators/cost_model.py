"""What candidates cost, in every cost metric at once."""

import copy
from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from evaluators.costs.kv import tally_kv
from evaluators.costs.latency import tally_latency
from evaluators.costs.macs import tally_macs
from evaluators.costs.params import tally_params
from evaluators.costs.size import tally_size
from evaluators.costs.tally import Floats, Tally, total
from evaluators.latency_table import LatencyTable
from search_spaces.space import SearchSpace
from search_spaces.structure.read import ModelStructure


class CostModel:
    """The costs of every candidate of one model; latency and throughput where it has a table.

    Args:
        structure: The model.
        stored_dtype: Of its weights on disk, and so of an export's.
        context: Tokens that a token attends to, for the multiply–accumulates of attention.
    """

    def __init__(
        self, structure: ModelStructure, *, stored_dtype: torch.dtype, context: int
    ) -> None:
        self._structure = structure
        self.table: LatencyTable | None = None
        self._tallies: dict[str, Tally] = {
            "params": tally_params(structure),
            "size": tally_size(structure, stored_dtype),
            "macs": tally_macs(structure, context),
            "kv": tally_kv(structure, stored_dtype),
        }

    def timed(self, table: LatencyTable) -> Self:
        """Give a cost model of the same model that knows latency and throughput too."""
        timed = copy.copy(self)
        timed.table = table
        timed._tallies = self._tallies | {"latency": tally_latency(self._structure, table)}
        return timed

    def costs(self, counts: NDArray[np.int_]) -> Mapping[str, Floats]:
        """Give each metric's cost ``(candidates,)`` of kept units ``(candidates, sub_blocks)``."""
        costs = {
            name: total(tally, self._structure, counts) for name, tally in self._tallies.items()
        }
        if self.table is not None:
            costs["throughput"] = self.table.setting.workload.throughput(costs["latency"])
        return costs

    def dense(self) -> Mapping[str, float]:
        """Give the dense model's cost in each metric."""
        widths = np.array([[block.unit_count for block in self._structure.sub_blocks]])
        return {name: float(cost[0]) for name, cost in self.costs(widths).items()}

    def level_costs(self, metric: str, space: SearchSpace) -> tuple[Floats, ...]:
        """Give, for each site, the cost of each of its levels ``(levels,)``.

        Norms that two sites share are left out.
        """
        tables = self._tallies[metric].tables
        return tuple(
            np.sum([tables[t][list(kept)] for t, kept in site.kept_by_target.items()], axis=0)
            for site in space.sites
        )
