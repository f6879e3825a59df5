"""A plan carried out: every layer of a dense model cut to what is kept of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from search_spaces.models.fingerprint import lasting
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.pruned_weights.types import OrderedWeights
from search_spaces.space.block_options import ExpertPruning
from search_spaces.space.plan import Plan
from search_spaces.structure.backbone import Backbone
from search_spaces.structure.components import Component
from search_spaces.structure.graft import graft, shallow
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import cut

Matrices = Mapping[str, QuantizedMatrix]
"""The bytes of matrices in number formats, by the paths of the tensors that they stand for."""


@dataclass(frozen=True, kw_only=True)
class CutLayers:
    """The layers of a pruned model, in the places of the dense ones: what every target writes.

    A layer that keeps nothing is still there, as a module that adds nothing.
    """

    structure: ModelStructure
    """The dense model, its units in their own order; its embedding and its head are in the number
    formats of the plan."""
    layers: tuple[nn.Module, ...]
    kept: tuple[NDArray[np.int_], ...]
    """The members that each component keeps, ascending; of a dropped one none."""
    insides: tuple[ExpertPruning, ...]
    """What the members of each component keep of themselves."""
    plan_id: str = ""
    """Of the plan that was carried out, for what names it; empty: of none."""
    quantized: tuple[Matrices, ...] = ()
    """Of each layer, which holds what they stand for, by paths in it; empty: there are none."""
    quantized_ends: Matrices = field(default_factory=dict)
    """Of the embedding and the head, by their paths in the model."""
    rounding: str = ""
    """The quantiser that made all of them of the dense matrices; empty: not it alone did."""

    @property
    def in_formats(self) -> Matrices:
        """All matrices in number formats, by their paths in the dense model."""
        paths = self.structure.backbone.layer_paths
        return {
            **self.quantized_ends,
            **{
                f"{paths[i]}.{path}": matrix
                for i, of_layer in enumerate(self.quantized)
                for path, matrix in of_layer.items()
            },
        }

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
    quantized: list[Matrices] = []
    for i in range(len(structure.layers)):
        span = structure.spans[i]
        choices = list(zip(components[span], kept[span], strict=True))
        with structure.backbone.resident(i) as dense:
            layers.append(cut(dense, choices, weights[span], insides[span]))
        quantized.append(quantized_of(components[span], weights[span]))
    ends = weights[structure.spans[-1].stop :]
    return CutLayers(
        structure=with_ends_of(structure, ends),
        layers=tuple(layers),
        kept=tuple(kept),
        insides=tuple(insides),
        plan_id=plan.plan_id,
        quantized=tuple(quantized) if any(quantized) else (),
        quantized_ends=quantized_of(structure.ends, ends),
    )


def quantized_of(components: Sequence[Component], weights: Sequence[OrderedWeights]) -> Matrices:
    """Return the matrices in number formats among weights.

    Args:
        components: Of one owner.
        weights: Of each, all of which stay in pruning order; empty: there are none.
    """
    return {
        component.tensor_path(path): matrix.quantized
        for component, ordered in zip(components, weights, strict=bool(weights))
        for path, matrix in ordered.weights.items()
        if matrix.quantized is not None
    }


def with_ends_of(structure: ModelStructure, ends: Sequence[OrderedWeights]) -> ModelStructure:
    """Return a model whose embedding and head hold other numbers, and that shares all else.

    Args:
        structure: The dense model.
        ends: Weights of its embedding and its head; empty, or without any: they stay.
    """
    model = structure.backbone.model
    replaced = {path: each.weight for end in ends for path, each in end.weights.items()}
    if not replaced:
        return structure
    held = lasting(model)
    parameters = {
        id(held[f"{path}.weight"]): nn.Parameter(weight.to(model.dtype), requires_grad=False)
        for path, weight in replaced.items()
    }
    modules = {}
    for path, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is not None and id(weight) in parameters:  # a tied one is in two modules
            modules[path] = shallow(module)
            modules[path]._parameters["weight"] = parameters[id(weight)]
    changed = graft(model, modules)
    assert isinstance(changed, PreTrainedModel)
    return replace(structure, backbone=Backbone(changed))


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
