"""Counting weights: what each unit owns, what a sub-block needs while it stands, and the rest."""

from collections.abc import Callable

import numpy as np
from torch import Tensor, nn

from evaluators.costs.tally import Tally, proportional
from search_spaces.structure.linears import bias, matrix
from search_spaces.structure.read import ModelStructure
from search_spaces.structure.sub_block import SubBlock

Weigh = Callable[[Tensor], float]
"""What one weight tensor costs; must be proportional to its size."""


def tally_weights(structure: ModelStructure, weigh: Weigh, *, adds_bias: bool = False) -> Tally:
    """Take a cost apart that is a sum over weight tensors, tied ones once.

    Args:
        structure: The model.
        weigh: What one weight tensor costs.
        adds_bias: Whether a sub-block that lost units has a bias that the dense one has not.
    """
    layers = structure.backbone.layers
    wholes, tables = 0.0, []
    for block in structure.sub_blocks:
        whole = _whole(layers[block.layer], block, weigh)
        units = _units(layers[block.layer], block, weigh)
        table = proportional(block.unit_count, units / block.unit_count, standing=whole - units)
        if adds_bias:
            table[1:-1] += _missing_bias(layers[block.layer], block, weigh)
        tables.append(table)
        wholes += whole
    shared = np.array(
        [
            sum(_own(layers[index].get_submodule(path), weigh) for path in layer.shared)
            for index, layer in enumerate(structure.layers)
        ],
        dtype=np.float64,
    )
    everything = _all(structure.backbone.model, weigh)
    return Tally(
        tables=tuple(tables), shared=shared, rest=everything - wholes - float(shared.sum())
    )


def _all(module: nn.Module, weigh: Weigh) -> float:
    return sum(weigh(weight) for weight in module.parameters())


def _own(module: nn.Module, weigh: Weigh) -> float:
    return sum(weigh(weight) for weight in module.parameters(recurse=False))


def _units(layer: nn.Module, block: SubBlock, weigh: Weigh) -> float:
    """Weigh what shrinks with the units: matrices, and the biases of the cut rows."""
    cost = 0.0
    for projection in block.projections:
        linear = layer.get_submodule(projection.path)
        offset = bias(linear)
        cost += weigh(matrix(linear))
        if projection.side == "rows" and offset is not None:
            cost += weigh(offset)
    return cost


def _whole(layer: nn.Module, block: SubBlock, weigh: Weigh) -> float:
    """Weigh all that goes when the sub-block is dropped."""
    holder = {block.module} if block.module else {p.path for p in block.projections}
    return sum(_all(layer.get_submodule(path), weigh) for path in holder | set(block.private))


def _missing_bias(layer: nn.Module, block: SubBlock, weigh: Weigh) -> float:
    """Weigh a bias of the output projection, where the dense model has none."""
    output = layer.get_submodule(block.projections[-1].path)
    return 0.0 if bias(output) is not None else weigh(matrix(output)[:, 0])
