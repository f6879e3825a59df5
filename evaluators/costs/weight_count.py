"""Counting weights: of each unit, of a component that keeps any, and the rest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from evaluators.costs.cost_table import (
    ComponentOptions,
    CostTable,
    Floats,
    WeightCost,
    proportional,
    tabulated,
)
from evaluators.costs.mixture import ExpertWeights, MixtureConfigurations
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component
from search_spaces.structure.experts import Experts
from search_spaces.structure.linear import bias, matrix
from search_spaces.structure.model import ModelStructure


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Which of a model's weights are counted."""

    adds_bias: bool = False
    """Whether a pruned component has a bias that the dense one has not."""
    buffers: bool = False
    """Whether buffers that a checkpoint stores are counted too."""
    running: bool = False
    """Whether only those experts count that run for a token."""


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
        self._layers = structure.backbone.layers
        self._weight_cost = weight_cost
        self._counted = counted

    def all(self, module: nn.Module) -> float:
        return sum(self._weight_cost(weight) for weight in self._tensors(module))

    def direct(self, module: nn.Module) -> float:
        """Return the cost of the parameters of a module without those of its children."""
        return sum(self._weight_cost(weight) for weight in module.parameters(recurse=False))

    def whole(self, component: Component) -> float:
        """Return the cost of all that dropping the component removes."""
        holder = (
            {component.module} if component.module else {p.path for p in component.projections}
        )
        layer = self._layers[component.layer]
        return sum(self.all(layer.get_submodule(path)) for path in holder | set(component.private))

    def table(self, component: Component, block_options: Sequence[BlockOptions]) -> Floats:
        """Return the cost of a component in each of its configurations."""
        whole = self.whole(component)
        if component.experts is not None:
            return self._mixture(component, component.experts, block_options, whole)
        units = self._units(component)
        table = proportional(
            component.unit_count, units / component.unit_count, standing=whole - units
        )
        if self._counted.adds_bias:
            table[1:-1] += self._missing_bias(component)
        return table

    def _tensors(self, module: nn.Module) -> Iterator[Tensor]:
        yield from module.parameters()
        for inner in module.modules() if self._counted.buffers else ():
            persistent = inner._buffers.keys() - inner._non_persistent_buffers_set
            yield from (inner.get_buffer(name) for name in sorted(persistent))

    def _mixture(
        self,
        component: Component,
        experts: Experts,
        block_options: Sequence[BlockOptions],
        whole: float,
    ) -> Floats:
        configurations = MixtureConfigurations.of(component, experts, block_options)
        each = ExpertWeights.of(self._layers[component.layer], experts, self._counted_cost)
        units = experts.count * (each.row + each.expert(experts.channel_count))
        counted = configurations.running if self._counted.running else configurations.kept
        standing = (whole - units) * (configurations.kept > 0)
        return np.asarray(
            standing
            + configurations.kept * each.row
            + counted * each.expert(configurations.channels)
        )

    def _counted_cost(self, weight: Tensor) -> float:
        """Return the cost of a tensor of a mixture, 0 for a buffer that does not count."""
        counts = self._counted.buffers or isinstance(weight, nn.Parameter)
        return self._weight_cost(weight) if counts else 0.0

    def _units(self, component: Component) -> float:
        """Return the cost of what shrinks with the units: matrices, biases of pruned rows."""
        cost = 0.0
        for projection in component.projections:
            linear = self._layers[component.layer].get_submodule(projection.path)
            offset = bias(linear)
            cost += self._weight_cost(matrix(linear))
            if projection.side == "rows" and offset is not None:
                cost += self._weight_cost(offset)
        return cost

    def _missing_bias(self, component: Component) -> float:
        """Return the cost of an output bias, 0 if the dense model has one already."""
        output = self._layers[component.layer].get_submodule(component.projections[-1].path)
        return 0.0 if bias(output) is not None else self._weight_cost(matrix(output)[:, 0])
