"""Bytes that each token adds to the key–value cache."""

from collections.abc import Sequence

import numpy as np

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable, Floats, proportional, tabulated
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component


def kv_table(model: CostedModel) -> CostTable:
    """Count the bytes of keys and values in the cache's number format, the weights' dtype if none.

    Layers with a sliding window count in full.
    """
    usual = 8 * model.stored.dtype.itemsize

    def table(component: Component, block_options: Sequence[BlockOptions]) -> Floats:
        bits = [options.cache.bits or usual for options in block_options]
        each = proportional(component.unit_count, component.cached_features / 8)
        return np.outer(bits, each)

    return CostTable(
        tables=tabulated(model.structure, model.block_options, table),
        shared=np.zeros(len(model.structure.layers)),
        rest=0.0,
    )
