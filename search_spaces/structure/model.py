"""A model that was read: its layers, their components, and their weights as floats."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from torch import Tensor

from search_spaces.structure.backbone import Backbone
from search_spaces.structure.components import Component
from search_spaces.structure.expert_tensors import stacks_of
from search_spaces.structure.linear import matrix


@dataclass(frozen=True, kw_only=True)
class LayerStructure:
    """One layer: its two components and what belongs to neither alone."""

    attention: Component
    feed_forward: tuple[Component, ...]
    """Its MLP; or its experts, and the shared expert beside them if there is one."""
    shared: tuple[str, ...]
    """Paths of norms that no component owns alone."""
    vanishes: bool
    """Whether the layer gives back what it gets once all components are dropped."""
    parallel: bool
    """Whether the MLP reads what the attention reads, and not what it wrote."""
    splits: bool
    """Whether its attention alone and then its MLP alone give what it gives, bit for bit."""

    @property
    def components(self) -> tuple[Component, ...]:
        """Its components in the order in which they run."""
        return (self.attention, *self.feed_forward)

    @property
    def mlp(self) -> Component:
        """The MLP of a layer that has no experts."""
        (component,) = self.feed_forward
        assert component.kind == "mlp", (
            f"layer {component.layer} has experts in the place of an MLP"
        )
        return component

    @property
    def experts(self) -> Component | None:
        """Its experts; none: it has an MLP."""
        return next(
            (component for component in self.feed_forward if component.kind == "experts"), None
        )


@dataclass(frozen=True, kw_only=True)
class ModelStructure:
    """A causal language model whose layers are understood."""

    backbone: Backbone
    layers: tuple[LayerStructure, ...]

    @property
    def components(self) -> tuple[Component, ...]:
        """All components in the order in which they run: attention, MLP, attention, and so on."""
        return tuple(component for layer in self.layers for component in layer.components)

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """The positions of each layer's components among all of them."""
        ends = [0, *accumulate(len(layer.components) for layer in self.layers)]
        return tuple(map(slice, ends, ends[1:]))

    @property
    def has_experts(self) -> bool:
        """Whether some layer is a mixture of experts."""
        return any(layer.experts is not None for layer in self.layers)

    def matrices(self) -> Iterator[tuple[Component, Mapping[str, Tensor]]]:
        """Give each component with its projections' matrices ``(rows, columns)`` in float32.

        By path, and for as long as the component's turn lasts. Of experts, which have no
        projections, it gives the stacks as they are stored, and the router's rows.
        """
        for index, own in enumerate(self.layers):
            with self.backbone.resident(index) as layer:
                for component in own.components:
                    paths = [projection.path for projection in component.projections]
                    found = {path: matrix(layer.get_submodule(path)) for path in paths}
                    if component.experts is not None:
                        found = stacks_of(layer, component.experts)
                    yield component, _Floats(found)


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
