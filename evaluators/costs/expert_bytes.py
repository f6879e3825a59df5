"""Bytes of experts that are read to decode one token."""

from collections.abc import Sequence

import numpy as np

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable, Floats, tabulated
from evaluators.costs.kept_counts import KeptCounts
from evaluators.costs.matrix_bytes import savings
from evaluators.costs.size import byte_count, saved_by_format
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component, UnitWeight


def loading_table(model: CostedModel) -> CostTable:
    """Count the bytes of experts that a decode step of one request reads.

    It is what bounds decoding if memory is the limit, or if experts lie in slower memory than the
    rest. Tensors are read as an export has them, zeros too, and the shared expert is read in full.
    """
    stored = model.on_disk

    def table(component: Component, options: Sequence[BlockOptions]) -> Floats:
        kept = KeptCounts.of(component, options)
        costs = np.zeros((len(options), component.unit_count + 1))
        for weight in component.unit_weights(stored.owner(component)):
            if _is_of_experts(weight):
                costs += kept.cost(weight, byte_count(weight.tensor), running=True)
        return costs

    saved = savings(
        model,
        saved_by_format,
        running=True,
        counted=lambda weight: weight.role == "matrix" and weight.is_stacked,
    )
    routed = map(np.subtract, tabulated(stored, model.block_options, table), saved)
    everything = model.table("size").tables
    return CostTable(
        tables=tuple(
            all_bytes if component.kind == "shared" else read_bytes
            for component, read_bytes, all_bytes in zip(
                stored.components, routed, everything, strict=True
            )
        ),
        shared=np.zeros(len(stored.layers)),
        rest=0.0,
    )


def _is_of_experts(weight: UnitWeight) -> bool:
    return weight.is_stacked and weight.role != "router"
