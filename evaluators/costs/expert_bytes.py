"""Bytes of experts that are read to write one token."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from evaluators.costs.cost_table import Floats, Tally, Variants, tabulated
from evaluators.costs.mixture import ExpertWeights, MixtureForms
from evaluators.metric import Metric
from search_spaces.space.block_options import Variant
from search_spaces.structure.components import SubBlock
from search_spaces.structure.model import ModelStructure

LOADING = Metric(
    name="loading",
    unit="bytes/token",
    direction="minimise",
    source="weights of the experts that run for one token, and of the shared one",
)


def tally_loading(
    structure: ModelStructure, variants: Variants, stored_dtype: torch.dtype, size: Tally
) -> Tally:
    """Count the bytes of experts that a decode step of one request reads.

    It is what a token waits for where memory is the limit, or where experts lie in slower memory
    than the rest. Zeros are read too.

    Args:
        structure: The model.
        variants: For each sub-block how it may be thinned out.
        stored_dtype: Of the weights.
        size: Bytes of all that is kept, of which the shared expert is read whole.
    """

    def weigh(weight: Tensor) -> float:
        return weight.numel() * stored_dtype.itemsize

    def table(block: SubBlock, own: Sequence[Variant]) -> Floats:
        if block.experts is None:
            return np.zeros(1)
        forms = MixtureForms.of(block, block.experts, own)
        layer = structure.backbone.layers[block.layer]
        each = ExpertWeights.of(layer, block.experts, weigh)
        return np.asarray(forms.running * each.expert(forms.channels))

    routed = zip(structure.sub_blocks, tabulated(structure, variants, table), strict=True)
    return Tally(
        tables=tuple(
            whole if block.kind == "shared" else own
            for (block, own), whole in zip(routed, size.tables, strict=True)
        ),
        shared=np.zeros(len(structure.layers)),
        rest=0.0,
    )
