"""Bytes that each token adds to the key–value cache."""

from collections.abc import Sequence

import numpy as np
import torch

from evaluators.costs.cost_table import Floats, Tally, Variants, proportional, tabulated
from evaluators.metric import Metric
from search_spaces.space.block_options import Variant
from search_spaces.structure.components import SubBlock
from search_spaces.structure.model import ModelStructure

KV = Metric(
    name="kv", unit="bytes/token", direction="minimise", source="keys and values of every layer"
)


def tally_kv(structure: ModelStructure, variants: Variants, stored_dtype: torch.dtype) -> Tally:
    """Count cache bytes in the weights' dtype; layers with a sliding window count in full."""

    def table(block: SubBlock, _variants: Sequence[Variant]) -> Floats:
        return proportional(block.unit_count, block.cached_features * stored_dtype.itemsize)

    return Tally(
        tables=tabulated(structure, variants, table),
        shared=np.zeros(len(structure.layers)),
        rest=0.0,
    )
