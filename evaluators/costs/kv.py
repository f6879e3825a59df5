"""Bytes that each token adds to the key–value cache."""

import numpy as np
import torch

from evaluators.costs.tally import Tally, proportional
from evaluators.metric import Metric
from search_spaces.structure.read import ModelStructure

KV = Metric(
    name="kv", unit="bytes/token", direction="minimise", source="keys and values of every layer"
)


def tally_kv(structure: ModelStructure, stored_dtype: torch.dtype) -> Tally:
    """Count cache bytes in the weights' dtype; layers with a sliding window count in full."""
    return Tally(
        tables=tuple(
            proportional(block.unit_count, block.cached_features * stored_dtype.itemsize)
            for block in structure.sub_blocks
        ),
        shared=np.zeros(len(structure.layers)),
        rest=0.0,
    )
