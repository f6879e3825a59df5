"""Components of a layer that a test knows to be there."""

from search_spaces.structure.components import Component
from search_spaces.structure.mixture import Mixture, mixtures_of
from search_spaces.structure.model import LayerStructure


def attention_of(layer: LayerStructure) -> Component:
    """Return the attention of a layer."""
    attention = layer.of_kind("attention")
    assert attention is not None
    return attention


def mlp_of(layer: LayerStructure) -> Component:
    """Return the MLP of a layer."""
    mlp = layer.of_kind("mlp")
    assert mlp is not None
    return mlp


def experts_in(layer: LayerStructure) -> Mixture | None:
    """Return the experts of a layer, if it has some."""
    return next(iter(mixtures_of(layer.components)), None)
