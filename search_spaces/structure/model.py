"""A model that was read: its layers, their components, and their weights in float32."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Self

from torch import Tensor, nn

from search_spaces.structure.backbone import Backbone
from search_spaces.structure.components import Component, ComponentKind
from search_spaces.structure.mixture import mixtures_of
from search_spaces.structure.vocabulary_matrix import VocabularyMatrix, vocabulary_matrices


@dataclass(frozen=True, kw_only=True)
class LayerStructure:
    """One layer: its components and what belongs to none of them alone."""

    components: tuple[Component, ...]
    """In the order in which they run: an attention, then an MLP, or experts and a shared expert,
    as far as the layer has them."""
    shared: tuple[str, ...]
    """Paths of norms that no component owns alone."""
    vanishes: bool
    """Whether the layer returns its input once all components are dropped."""
    parallel: bool
    """Whether the MLP reads what the attention reads, and not what it writes."""
    splits: bool
    """Whether its attention alone and then its MLP alone compute what it computes, bit for bit;
    so does one component alone."""

    def of_kind(self, kind: ComponentKind) -> Component | None:
        """Return its component of a kind, if it has one."""
        return next((each for each in self.components if each.kind == kind), None)

    @property
    def feed_forward(self) -> tuple[Component, ...]:
        """What it has besides an attention."""
        return tuple(each for each in self.components if not each.mixes_tokens)


@dataclass(frozen=True, kw_only=True)
class ModelStructure:
    """A causal language model and the structure of its layers."""

    backbone: Backbone
    layers: tuple[LayerStructure, ...]
    ends: tuple[VocabularyMatrix, ...] = ()
    """The embedding and the head, where they have number formats to choose from."""

    def with_ends(self) -> Self:
        """Return the structure with its embedding and head among the components."""
        return replace(self, ends=vocabulary_matrices(self.backbone))

    @property
    def components(self) -> tuple[Component, ...]:
        """All components: those in layers, and then the ends."""
        return (*self.in_layers, *self.ends)

    @property
    def in_layers(self) -> tuple[Component, ...]:
        """Those of layers in the order in which they run: attention, MLP, attention, and so on."""
        return tuple(component for layer in self.layers for component in layer.components)

    def owner(self, component: Component) -> nn.Module:
        """Return the module that a component's paths lie in: its layer, or the model."""
        if component in self.ends:
            return self.backbone.model
        return self.backbone.layers[component.layer]

    def tensor_name(self, component: Component, path: str) -> str:
        """Return the name in the model of the tensor that one of a component's paths means."""
        inside = component.tensor_path(path)
        if component in self.ends:
            return inside
        return f"{self.backbone.layer_paths[component.layer]}.{inside}"

    def resident(self, component: Component) -> AbstractContextManager[nn.Module]:
        """Return a context in which its owner's weights are in memory; it yields the owner."""
        if component in self.ends:
            return nullcontext(self.backbone.model)
        return self.backbone.resident(component.layer)

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """The positions of each layer's components among all of them."""
        ends = [0, *accumulate(len(layer.components) for layer in self.layers)]
        return tuple(map(slice, ends, ends[1:]))

    @property
    def has_experts(self) -> bool:
        """Whether some layer is a mixture of experts."""
        return bool(mixtures_of(self.components))

    def matrices(self) -> Iterator[tuple[Component, Mapping[str, Tensor]]]:
        """Yield each component with its `weights` in float32, valid until the next is taken."""
        for index, structure in enumerate(self.layers):
            with self.backbone.resident(index) as layer:
                for component in structure.components:
                    yield component, _Floats(component.weights(layer))
        for end in self.ends:
            yield end, _Floats(end.weights(self.backbone.model))


class _Floats(Mapping[str, Tensor]):
    """Weights that are cast to float32 on access only, for those of experts are large."""

    def __init__(self, stored: Mapping[str, Tensor]) -> None:
        self._stored = stored

    def __getitem__(self, path: str) -> Tensor:
        return self._stored[path].float()

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)
