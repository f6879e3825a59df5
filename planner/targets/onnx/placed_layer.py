"""The layers of what is written, and what those have in common that one graph computes."""

from dataclasses import dataclass

from torch import Tensor, nn

from planner.targets.cut_layers import CutLayers
from search_spaces.structure.components import Component, Projection
from search_spaces.structure.linear import matrix

LayerShape = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of a layer's tensors; 0 along an axis that may have any size."""


@dataclass(frozen=True, kw_only=True)
class PlacedLayer:
    """One layer of what is written."""

    place: int
    """Of the layer of the dense model that it was cut from."""
    module: nn.Module
    components: tuple[Component, ...]
    """Of the dense layer."""
    groups: int
    """Units that its attention keeps; 0: it has none."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All its weights and buffers by their names."""
        return {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}

    @property
    def widths(self) -> frozenset[int]:
        """Sizes along which its MLP is narrowed."""
        held = self.tensors
        return frozenset(
            matrix(self.module.get_submodule(each.path)).shape[0 if each.side == "rows" else 1]
            for each in self._projections
            if f"{each.path}.weight" in held
        )

    def shape(self, *, any_width: bool) -> LayerShape:
        """Return the shapes of its tensors.

        Args:
            any_width: Whether to leave open the width of its MLP.
        """
        widths = self.widths if any_width else ()
        narrowed = tuple(f"{projection.path}." for projection in self._projections)
        return tuple(
            (
                name,
                tuple(
                    0 if size in widths and name.startswith(narrowed) else size
                    for size in tensor.shape
                ),
            )
            for name, tensor in sorted(self.tensors.items())
        )

    @property
    def _projections(self) -> list[Projection]:
        return [p for each in self.components if each.kind == "mlp" for p in each.projections]


def placed(cut: CutLayers) -> list[PlacedLayer]:
    """Return the layers of a pruned model, without those that nothing is left of."""
    layers: list[PlacedLayer] = []
    for place, module in enumerate(cut.layers):
        dense, parts = cut.structure.layers[place], cut.of_layer(place)
        if dense.vanishes and not any(len(units) for _, units, _ in parts):
            continue
        groups = sum(len(units) for component, units, _ in parts if component.mixes_tokens)
        layers.append(
            PlacedLayer(place=place, module=module, components=dense.components, groups=groups)
        )
    return layers
