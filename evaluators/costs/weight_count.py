"""Counting weights: of each unit, of a component that keeps any, and the rest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.costs.cost_table import (
    ComponentOptions,
    CostTable,
    Floats,
    WeightCost,
    tabulated,
)
from evaluators.costs.kept_counts import KeptCounts
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component, UnitWeight
from search_spaces.structure.linear import bias, matrix
from search_spaces.structure.model import ModelStructure


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Which of a model's weights are counted."""

    adds_bias: bool = False
    """Whether a pruned component has a bias that the dense one has not."""
    bias_dtype: torch.dtype | None = None
    """Of that bias; None: that of its matrix."""
    buffers: bool = False
    """Whether buffers that a checkpoint stores are counted too."""
    running: bool = False
    """Whether only those members count that run for a token."""


def weight_table(
    structure: ModelStructure,
    block_options: ComponentOptions,
    weight_cost: WeightCost,
    counted: Counted,
) -> CostTable:
    """Tabulate a cost that is a sum over weight tensors, tied ones once.

    Args:
        structure: The model.
        block_options: For each component its options, the dense one first.
        weight_cost: What one weight tensor costs.
        counted: Which tensors.
    """
    counter = _WeightCounter(structure, weight_cost, counted)
    total = counter.all(structure.backbone.model)
    components = sum(map(counter.whole, structure.components))
    shared = np.array(
        [
            sum(counter.direct(layer.get_submodule(path)) for path in layer_structure.shared)
            for layer, layer_structure in zip(
                structure.backbone.layers, structure.layers, strict=True
            )
        ],
        dtype=np.float64,
    )
    return CostTable(
        tables=tabulated(structure, block_options, counter.table),
        shared=shared,
        rest=total - components - float(shared.sum()),
    )


class _WeightCounter:
    """Adds up the costs of the weights of a model's parts."""

    def __init__(
        self, structure: ModelStructure, weight_cost: WeightCost, counted: Counted
    ) -> None:
        self._owner = structure.owner
        self._weight_cost = weight_cost
        self._counted = counted

    def all(self, module: nn.Module) -> float:
        return sum(self._weight_cost(weight) for weight in self._tensors(module))

    def direct(self, module: nn.Module) -> float:
        """Return the cost of the parameters of a module without those of its children."""
        return sum(self._weight_cost(weight) for weight in module.parameters(recurse=False))

    def whole(self, component: Component) -> float:
        """Return the cost of all that dropping the component removes."""
        holder = {component.module} if component.module else set(component.paths)
        owner = self._owner(component)
        return sum(self.all(owner.get_submodule(path)) for path in holder | set(component.private))

    def table(self, component: Component, block_options: Sequence[BlockOptions]) -> Floats:
        """Return the cost of a component in each of its configurations."""
        kept = KeptCounts.of(component, block_options)
        weights = component.unit_weights(self._owner(component))
        dense_costs = [self._counted_cost(weight) for weight in weights]
        table = np.zeros((len(block_options), component.unit_count + 1))
        table += (self.whole(component) - sum(dense_costs)) * (kept.members > 0)
        for weight, dense_cost in zip(weights, dense_costs, strict=True):
            table += kept.cost(weight, dense_cost, running=self._counted.running)
        if self._counted.adds_bias:
            table[:, 1:-1] += self._missing_bias(component)
        return table

    def _tensors(self, module: nn.Module) -> Iterator[Tensor]:
        yield from module.parameters()
        for inner in module.modules() if self._counted.buffers else ():
            persistent = inner._buffers.keys() - inner._non_persistent_buffers_set
            yield from (inner.get_buffer(name) for name in sorted(persistent))

    def _counted_cost(self, weight: UnitWeight) -> float:
        """Return the cost of a weight, 0 for a buffer that does not count."""
        counts = self._counted.buffers or not weight.is_buffer
        return self._weight_cost(weight.tensor) if counts else 0.0

    def _missing_bias(self, component: Component) -> float:
        """Return the cost of a refitted output's bias, 0 if the dense model has one already."""
        owner = self._owner(component)
        outputs = [owner.get_submodule(p.path) for p in component.projections[-1:]]
        columns = [matrix(output)[:, 0] for output in outputs if bias(output) is None]
        dtype = self._counted.bias_dtype
        return sum(self._weight_cost(torch.empty_like(each, dtype=dtype)) for each in columns)
