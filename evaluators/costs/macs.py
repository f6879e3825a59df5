"""Multiply–accumulates for each token."""

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor, nn

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import (
    ComponentOptions,
    CostTable,
    Floats,
    tabulated,
)
from evaluators.costs.kept_counts import KeptCounts
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component
from search_spaces.structure.linear import is_linear, matrix
from search_spaces.structure.model import ModelStructure


def macs_table(model: CostedModel) -> CostTable:
    """Count the multiply–accumulates of one token that attends to the model's context."""
    return products_table(model.structure, model.block_options, model.context)


def products_table(
    structure: ModelStructure, block_options: ComponentOptions, context: int
) -> CostTable:
    """Count the multiply–accumulates of one token that attends to ``context`` tokens.

    In a mixture, those of the router's rows and of the experts that run for the token; of what
    runs at full width, all unless the component is dropped.
    """
    layers = structure.backbone.layers

    def table(component: Component, options: Sequence[BlockOptions]) -> Floats:
        if component in structure.ends:  # with all else outside the layers
            return np.zeros((1, 1))
        layer, kept = layers[component.layer], KeptCounts.of(component, options)
        standing = sum(_products(matrix(linear)) for linear in _standing(layer, component))
        costs = np.zeros((len(options), component.unit_count + 1))
        costs += standing * (kept.members > 0)
        costs += float(component.core_features * context) * kept.members
        for weight in component.unit_weights(layer):
            if weight.role != "bias":
                costs += kept.cost(weight, _products(weight.tensor), running=True)
        return costs

    outside = [
        module
        for path, module in structure.backbone.model.named_modules()
        if is_linear(module) and not path.startswith(f"{structure.backbone.stack.path}.")
    ]
    return CostTable(
        tables=tabulated(structure, block_options, table),
        shared=np.zeros(len(structure.layers)),
        rest=float(sum(_products(matrix(module)) for module in outside)),
    )


def _products(weight: Tensor) -> float:
    """Count the products of a matrix, or of one for each expert; a vector is only added."""
    return float(weight.numel()) if weight.ndim > 1 else 0.0


def _standing(layer: nn.Module, component: Component) -> list[nn.Module]:
    """List the linear layers that run at full width unless the component is dropped."""

    def lies_in(path: str, roots: Iterable[str]) -> bool:
        return any(path == root or path.startswith(f"{root}.") for root in roots)

    roots = {component.module, *component.private} - {""}
    return [
        module
        for path, module in layer.named_modules()
        if is_linear(module) and lies_in(path, roots) and not lies_in(path, component.paths)
    ]
