"""Bytes of experts that are read to write one token."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from evaluators.costs.cost_table import CostTable, Floats, Variants, tabulated
from evaluators.costs.mixture import ExpertWeights, MixtureForms
from evaluators.metric import Metric
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

LOADING = Metric(
    name="loading",
    unit="bytes/token",
    direction="minimise",
    source="weights of the experts that run for one token, and of the shared one",
)


def tally_loading(
    structure: ModelStructure, block_options: Variants, stored_dtype: torch.dtype, size: CostTable
) -> CostTable:
    """Count the bytes of experts that a decode step of one request reads.

    It is what a token waits for where memory is the limit, or where experts lie in slower memory
    than the rest. Zeros are read too.

    Args:
        structure: The model.
        block_options: For each component how it may be thinned out.
        stored_dtype: Of the weights.
        size: Bytes of all that is kept, of which the shared expert is read whole.
    """

    def weigh(weight: Tensor) -> float:
        return weight.numel() * stored_dtype.itemsize

    def table(component: Component, own: Sequence[BlockOptions]) -> Floats:
        if component.experts is None:
            return np.zeros(1)
        configurations = MixtureForms.of(component, component.experts, own)
        layer = structure.backbone.layers[component.layer]
        each = ExpertWeights.of(layer, component.experts, weigh)
        return np.asarray(configurations.running * each.expert(configurations.channels))

    routed = zip(structure.components, tabulated(structure, block_options, table), strict=True)
    return CostTable(
        tables=tuple(
            whole if component.kind == "shared" else own
            for (component, own), whole in zip(routed, size.tables, strict=True)
        ),
        shared=np.zeros(len(structure.layers)),
        rest=0.0,
    )
