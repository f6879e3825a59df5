"""Multiply–accumulates for each token."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from evaluators.costs.cost_table import Floats, Tally, Variants, proportional, tabulated
from evaluators.costs.mixture import ExpertWeights, MixtureForms
from evaluators.metric import Metric
from search_spaces.space.block_options import Variant
from search_spaces.structure.components import SubBlock
from search_spaces.structure.linear import is_linear, matrix
from search_spaces.structure.model import ModelStructure

MACS = Metric(
    name="macs",
    unit="multiply-accumulates/token",
    direction="minimise",
    source="matrix products with weights, attention scores and weighted values; half of FLOPs",
)


def tally_macs(structure: ModelStructure, variants: Variants, context: int) -> Tally:
    """Count the multiply–accumulates of one token that attends to ``context`` tokens.

    Of a mixture, those of the router's rows and of the experts that run for it.
    """
    layers = structure.backbone.layers

    def table(block: SubBlock, own: Sequence[Variant]) -> Floats:
        layer = layers[block.layer]
        if block.experts is not None:
            forms = MixtureForms.of(block, block.experts, own)
            each = ExpertWeights.of(layer, block.experts, _products, matrices_only=True)
            return np.asarray(forms.kept * each.row + forms.running * each.expert(forms.channels))
        cut = [projection.path for projection in block.projections]
        products = sum(_products(matrix(layer.get_submodule(path))) for path in cut)
        unit = products / block.unit_count + block.core_features * context
        standing = sum(_products(matrix(linear)) for linear in _standing(layer, block))
        return proportional(block.unit_count, unit, standing)

    outside = [
        module
        for path, module in structure.backbone.model.named_modules()
        if is_linear(module) and not path.startswith(f"{structure.backbone.stack_path}.")
    ]
    return Tally(
        tables=tabulated(structure, variants, table),
        shared=np.zeros(len(structure.layers)),
        rest=float(sum(_products(matrix(module)) for module in outside)),
    )


def _products(weight: Tensor) -> float:
    """Count those of a matrix, or of one for each expert; a vector is only added."""
    return float(weight.numel()) if weight.ndim > 1 else 0.0


def _standing(layer: nn.Module, block: SubBlock) -> list[nn.Module]:
    """List the linear layers that run for as long as the sub-block keeps anything."""
    cut = {projection.path for projection in block.projections}
    roots = {block.module, *block.private} - {""}
    return [
        module
        for path, module in layer.named_modules()
        if is_linear(module)
        and path not in cut
        and any(path == root or path.startswith(f"{root}.") for root in roots)
    ]
