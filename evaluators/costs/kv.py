"""Bytes that each token adds to the key–value cache."""

import numpy as np
import torch

from evaluators.costs.tally import Tally
from evaluators.metric import Metric
from search_spaces.structure.read import ModelStructure

KV = Metric(
    name="kv", unit="bytes/token", direction="minimise", source="keys and values of every layer"
)


def tally_kv(structure: ModelStructure, stored_dtype: torch.dtype) -> Tally:
    """Count cache bytes in the weights' dtype; layers with a sliding window count in full."""
    blocks = structure.sub_blocks
    return Tally(
        each=np.array([float(b.cached_features * stored_dtype.itemsize) for b in blocks]),
        standing=np.zeros(len(blocks)),
        shared=np.zeros(len(structure.layers)),
        rest=0.0,
    )
