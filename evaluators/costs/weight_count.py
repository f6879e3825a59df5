"""Counting weights: what each unit owns, what a sub-block needs while it stands, and the rest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from evaluators.costs.cost_table import Floats, Tally, Variants, Weigh, proportional, tabulated
from evaluators.costs.mixture import ExpertWeights, MixtureForms
from search_spaces.space.block_options import Variant
from search_spaces.structure.components import SubBlock
from search_spaces.structure.experts import Experts
from search_spaces.structure.linear import bias, matrix
from search_spaces.structure.model import ModelStructure


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What of a model's weights is counted."""

    adds_bias: bool = False
    """Whether a sub-block that lost units has a bias that the dense one has not."""
    buffers: bool = False
    """Whether all that a checkpoint holds is counted, and not parameters alone."""
    running: bool = False
    """Whether of the experts only those count that run for a token."""


def tally_weights(
    structure: ModelStructure, variants: Variants, weigh: Weigh, counted: Counted
) -> Tally:
    """Take a cost apart that is a sum over weight tensors, tied ones once.

    Args:
        structure: The model.
        variants: For each sub-block how it may be thinned out.
        weigh: What one weight tensor costs.
        counted: Of all tensors.
    """
    scale = _Scale(structure, weigh, counted)
    everything = scale.all(structure.backbone.model)
    wholes = sum(map(scale.whole, structure.sub_blocks))
    shared = np.array(
        [
            sum(scale.own(layer.get_submodule(path)) for path in found.shared)
            for layer, found in zip(structure.backbone.layers, structure.layers, strict=True)
        ],
        dtype=np.float64,
    )
    return Tally(
        tables=tabulated(structure, variants, scale.table),
        shared=shared,
        rest=everything - wholes - float(shared.sum()),
    )


class _Scale:
    """Weighs parts of a model."""

    def __init__(self, structure: ModelStructure, weigh: Weigh, counted: Counted) -> None:
        self._layers = structure.backbone.layers
        self._weigh = weigh
        self._counted = counted

    def all(self, module: nn.Module) -> float:
        return sum(self._weigh(weight) for weight in self._tensors(module))

    def own(self, module: nn.Module) -> float:
        return sum(self._weigh(weight) for weight in module.parameters(recurse=False))

    def whole(self, block: SubBlock) -> float:
        """Weigh all that goes when the sub-block is dropped."""
        holder = {block.module} if block.module else {p.path for p in block.projections}
        layer = self._layers[block.layer]
        return sum(self.all(layer.get_submodule(path)) for path in holder | set(block.private))

    def table(self, block: SubBlock, variants: Sequence[Variant]) -> Floats:
        """Weigh a sub-block in each of its forms."""
        whole = self.whole(block)
        if block.experts is not None:
            return self._mixture(block, block.experts, variants, whole)
        units = self._units(block)
        table = proportional(block.unit_count, units / block.unit_count, standing=whole - units)
        if self._counted.adds_bias:
            table[1:-1] += self._missing_bias(block)
        return table

    def _tensors(self, module: nn.Module) -> Iterator[Tensor]:
        yield from module.parameters()
        for inner in module.modules() if self._counted.buffers else ():
            lasting = inner._buffers.keys() - inner._non_persistent_buffers_set
            yield from (inner.get_buffer(name) for name in sorted(lasting))

    def _mixture(
        self, block: SubBlock, experts: Experts, variants: Sequence[Variant], whole: float
    ) -> Floats:
        forms = MixtureForms.of(block, experts, variants)
        each = ExpertWeights.of(self._layers[block.layer], experts, self._weigh_counted)
        units = experts.count * (each.row + each.expert(experts.channel_count))
        present = forms.running if self._counted.running else forms.kept
        standing = (whole - units) * (forms.kept > 0)
        return np.asarray(standing + forms.kept * each.row + present * each.expert(forms.channels))

    def _weigh_counted(self, weight: Tensor) -> float:
        """Weigh a tensor of a mixture, of which buffers may not count."""
        counts = self._counted.buffers or isinstance(weight, nn.Parameter)
        return self._weigh(weight) if counts else 0.0

    def _units(self, block: SubBlock) -> float:
        """Weigh what shrinks with the units: matrices, and the biases of the cut rows."""
        cost = 0.0
        for projection in block.projections:
            linear = self._layers[block.layer].get_submodule(projection.path)
            offset = bias(linear)
            cost += self._weigh(matrix(linear))
            if projection.side == "rows" and offset is not None:
                cost += self._weigh(offset)
        return cost

    def _missing_bias(self, block: SubBlock) -> float:
        """Weigh a bias of the output projection, where the dense model has none."""
        output = self._layers[block.layer].get_submodule(block.projections[-1].path)
        return 0.0 if bias(output) is not None else self._weigh(matrix(output)[:, 0])
