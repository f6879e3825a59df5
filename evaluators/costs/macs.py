"""Multiply–accumulates for each token."""

import numpy as np

from evaluators.costs.tally import Tally, proportional
from evaluators.metric import Metric
from search_spaces.structure.linears import is_linear, matrix
from search_spaces.structure.read import ModelStructure
from search_spaces.structure.sub_block import SubBlock

MACS = Metric(
    name="macs",
    unit="multiply-accumulates/token",
    direction="minimise",
    source="matrix products with weights, attention scores and weighted values; half of FLOPs",
)


def tally_macs(structure: ModelStructure, context: int) -> Tally:
    """Count the multiply–accumulates of one token that attends to ``context`` tokens."""
    layers = structure.backbone.layers

    def unit(block: SubBlock) -> float:
        linears = [layers[block.layer].get_submodule(p.path) for p in block.projections]
        products = sum(matrix(linear).numel() for linear in linears)
        return products / block.unit_count + block.core_features * context

    outside = [
        module
        for path, module in structure.backbone.model.named_modules()
        if is_linear(module) and not path.startswith(f"{structure.backbone.stack_path}.")
    ]
    blocks = structure.sub_blocks
    return Tally(
        tables=tuple(proportional(block.unit_count, unit(block)) for block in blocks),
        shared=np.zeros(len(structure.layers)),
        rest=float(sum(matrix(module).numel() for module in outside)),
    )
