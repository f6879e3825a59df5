"""A model that was read: its layers, their components, and their weights as floats."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from torch import Tensor

from search_spaces.structure.backbone import Backbone
from search_spaces.structure.components import SubBlock
from search_spaces.structure.expert_tensors import stacks_of
from search_spaces.structure.linear import matrix


@dataclass(frozen=True, kw_only=True)
class LayerStructure:
    """One layer: its two sub-blocks and what belongs to neither alone."""

    attention: SubBlock
    feed_forward: tuple[SubBlock, ...]
    """Its MLP; or its experts, and the shared expert beside them if there is one."""
    shared: tuple[str, ...]
    """Paths of norms that no sub-block owns alone."""
    vanishes: bool
    """Whether the layer gives back what it gets once all sub-blocks are dropped."""
    parallel: bool
    """Whether the MLP reads what the attention reads, and not what it wrote."""
    splits: bool
    """Whether its attention alone and then its MLP alone give what it gives, bit for bit."""

    @property
    def sub_blocks(self) -> tuple[SubBlock, ...]:
        """Its sub-blocks in the order in which they run."""
        return (self.attention, *self.feed_forward)

    @property
    def mlp(self) -> SubBlock:
        """The MLP of a layer that has no experts."""
        (block,) = self.feed_forward
        assert block.kind == "mlp", f"layer {block.layer} has experts in the place of an MLP"
        return block

    @property
    def experts(self) -> SubBlock | None:
        """Its experts; none: it has an MLP."""
        return next((block for block in self.feed_forward if block.kind == "experts"), None)


@dataclass(frozen=True, kw_only=True)
class ModelStructure:
    """A causal language model whose layers are understood."""

    backbone: Backbone
    layers: tuple[LayerStructure, ...]

    @property
    def sub_blocks(self) -> tuple[SubBlock, ...]:
        """All sub-blocks in the order in which they run: attention, MLP, attention, and so on."""
        return tuple(block for layer in self.layers for block in layer.sub_blocks)

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """The positions of each layer's sub-blocks among all of them."""
        ends = [0, *accumulate(len(layer.sub_blocks) for layer in self.layers)]
        return tuple(map(slice, ends, ends[1:]))

    @property
    def has_experts(self) -> bool:
        """Whether some layer is a mixture of experts."""
        return any(layer.experts is not None for layer in self.layers)

    def matrices(self) -> Iterator[tuple[SubBlock, Mapping[str, Tensor]]]:
        """Give each sub-block with its projections' matrices ``(rows, columns)`` in float32.

        By path, and for as long as the sub-block's turn lasts. Of experts, which have no
        projections, it gives the stacks as they are stored, and the router's rows.
        """
        for index, own in enumerate(self.layers):
            with self.backbone.resident(index) as layer:
                for block in own.sub_blocks:
                    paths = [projection.path for projection in block.projections]
                    found = {path: matrix(layer.get_submodule(path)) for path in paths}
                    if block.experts is not None:
                        found = stacks_of(layer, block.experts)
                    yield block, _Floats(found)


class _Floats(Mapping[str, Tensor]):
    """Weights that become float32 when they are asked for: those of experts are large."""

    def __init__(self, stored: Mapping[str, Tensor]) -> None:
        self._stored = stored

    def __getitem__(self, path: str) -> Tensor:
        return self._stored[path].float()

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)
