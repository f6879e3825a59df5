"""A plan carried out: every layer of a dense model cut to what is kept of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.pruned_weights.types import OrderedWeights
from search_spaces.space.block_options import ExpertPruning
from search_spaces.space.plan import Plan
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import cut


@dataclass(frozen=True, kw_only=True)
class CutLayers:
    """The layers of a pruned model, in the places of the dense ones: what every target writes.

    A layer that keeps nothing is still there, as a module that adds nothing.
    """

    structure: ModelStructure
    """The dense model, its units in their own order."""
    layers: tuple[nn.Module, ...]
    kept: tuple[NDArray[np.int_], ...]
    """The members that each component keeps, ascending; of a dropped one none."""
    insides: tuple[ExpertPruning, ...]
    """What the members of each component keep of themselves."""
    plan_id: str = ""
    """Of the plan that was carried out, for what names it; empty: of none."""

    def of_layer(self, layer: int) -> list[tuple[Component, NDArray[np.int_], ExpertPruning]]:
        """Return the components of a layer with what is kept of each."""
        span = self.structure.spans[layer]
        return list(
            zip(
                self.structure.components[span],
                self.kept[span],
                self.insides[span],
                strict=True,
            )
        )


def cut_layers(
    structure: ModelStructure, plan: Plan, weights: Sequence[OrderedWeights] = ()
) -> CutLayers:
    """Cut the layers of a dense model down to a plan.

    Args:
        structure: The dense model, its units in their own order.
        plan: What to keep.
        weights: Of each component, those that are no slices of the sorted model; empty: all are
            slices.
    """
    components = structure.components
    kept = plan.kept_units(components)
    insides = [plan.expert_pruning(component) for component in components]
    layers: list[nn.Module] = []
    for i in range(len(structure.layers)):
        span = structure.spans[i]
        choices = list(zip(components[span], kept[span], strict=True))
        with structure.backbone.resident(i) as dense:
            layers.append(cut(dense, choices, weights[span], insides[span]))
    return CutLayers(
        structure=structure,
        layers=tuple(layers),
        kept=tuple(kept),
        insides=tuple(insides),
        plan_id=plan.plan_id,
    )


@torch.inference_mode()
def logits_of_layers(
    structure: ModelStructure, layers: Sequence[nn.Module], tokens: Tensor
) -> Tensor:
    """Return the logits ``(batch, tokens, vocabulary)`` of layers in the place of a model's own.

    Args:
        structure: The dense model.
        layers: One for each of its own.
        tokens: Token ids ``(batch, tokens)``.
    """
    backbone = structure.backbone
    inputs = backbone.enter(tokens)
    hidden = inputs.hidden
    for layer, call in zip(layers, inputs.calls, strict=True):
        hidden = backbone.run_layer(layer, hidden, call)
    return backbone.logits(backbone.leave(hidden))
