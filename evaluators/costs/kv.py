"""Bytes that each token adds to the key–value cache."""

from collections.abc import Sequence

import numpy as np
import torch

from evaluators.costs.cost_table import (
    ComponentOptions,
    CostTable,
    Floats,
    proportional,
    tabulated,
)
from evaluators.metric import Metric
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

KV = Metric(
    name="kv", unit="bytes/token", direction="minimise", source="keys and values of every layer"
)


def kv_table(
    structure: ModelStructure, block_options: ComponentOptions, stored_dtype: torch.dtype
) -> CostTable:
    """Count cache bytes in the weights' dtype; layers with a sliding window count in full."""

    def table(component: Component, _options: Sequence[BlockOptions]) -> Floats:
        return proportional(
            component.unit_count, component.cached_features * stored_dtype.itemsize
        )

    return CostTable(
        tables=tabulated(structure, block_options, table),
        shared=np.zeros(len(structure.layers)),
        rest=0.0,
    )
