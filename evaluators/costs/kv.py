"""Bytes that each token adds to the key–value cache."""

from collections.abc import Sequence

import numpy as np

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable, Floats, proportional, tabulated
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component


def kv_table(model: CostedModel) -> CostTable:
    """Count cache bytes in the weights' dtype; layers with a sliding window count in full."""
    itemsize = model.stored.dtype.itemsize

    def table(component: Component, _options: Sequence[BlockOptions]) -> Floats:
        return proportional(component.unit_count, component.cached_features * itemsize)

    return CostTable(
        tables=tabulated(model.structure, model.block_options, table),
        shared=np.zeros(len(model.structure.layers)),
        rest=0.0,
    )
