"""The gradient of a candidate's KL by a gate on each unit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from evaluators.scoring.by_gradient.gradient_text import GradientText
from evaluators.scoring.ends import Ends
from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.sorted_model import SortedModel
from search_spaces.structure.components import Component, Projection
from search_spaces.structure.graft import hookable
from search_spaces.structure.linear import bias, matrix
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.layer_builder import LayerBuilder

GateGradients = tuple[NDArray[np.float64], ...]
"""For each component the derivative of KL by each unit's gate, ``(units,)``, in nats a token."""

PASSES = 3
"""Forward passes that one gradient costs: one forward, and a backward of about two."""


def gate_gradients(
    sorted_model: SortedModel,
    texts: Sequence[GradientText],
    configurations: NDArray[np.int_],
    layer_builder: LayerBuilder | None = None,
) -> GateGradients:
    """Differentiate a candidate's KL to the dense model by a gate on every unit.

    A gate multiplies what a unit hands to its component's last projection, or an expert's routing
    weight: 1 keeps the unit, 0 drops it. The candidate is the dense model with its gates; to first
    order the derivative by a dropped unit's gate is the change of KL from restoring it, and that
    by a kept unit's gate is minus the change from dropping it.

    Args:
        sorted_model: The model.
        texts: That it is averaged over.
        configurations: Of the candidate's components, ``(components,)``.
        layer_builder: Holds pruned weights; a restored unit counts with its dense weights.

    References:
        Michel, Levy & Neubig, 2019, "Are Sixteen Heads Really Better than One?" (gates on heads);
        Molchanov et al., 2017 (first-order Taylor).
    """
    structure = sorted_model.structure
    model = structure.backbone.model
    layer_builder = layer_builder or LayerBuilder(sorted_model)
    ends = Ends(structure, layer_builder)
    kept_counts = layer_builder.tables.units(configurations)
    gates = [
        (torch.arange(component.unit_count, device=model.device) < count).to(model.dtype)
        for component, count in zip(structure.components, kept_counts, strict=True)
    ]
    sums = [torch.zeros(len(gate), dtype=torch.float64) for gate in gates]
    # before a gradient is taken, for making pruned weights may run the dense model
    weights = [
        layer_builder.weights(position, int(configuration))
        for position, configuration in enumerate(configurations[: structure.spans[-1].stop])
    ]
    shaped = _shaped(structure, kept_counts, weights)
    backbone = ends.backbone_of(configurations)
    head = ends.head_of(configurations)
    for text in texts:
        with torch.enable_grad(), frozen(model):
            leaves = [gate.clone().requires_grad_() for gate in gates]
            gated = _gated(structure, leaves, kept_counts, shaped)
            final = backbone.final_of(text.tokens, gated)
            by_final = text.kl_by_final(head, final)
            gradients = torch.autograd.grad(final, leaves, by_final, allow_unused=True)
        for component, gradient in enumerate(gradients):
            if gradient is not None:
                sums[component] += gradient.double().cpu()
    positions = sum(text.positions for text in texts)
    return tuple((total / positions).numpy() for total in sums)


def _of_layers(structure: ModelStructure) -> list[Component]:
    return [component for layer in structure.layers for component in layer.components]


class _Reweighted(nn.Module):
    """Takes the place of a linear layer, with another weight and bias.

    Args:
        weight: ``(rows, columns)``
        bias: ``(rows,)``; None: no bias.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self.weight, self.bias)


def _shaped(
    structure: ModelStructure,
    kept_counts: NDArray[np.int_],
    pruned_weights: Sequence[PrunedWeights],
) -> dict[str, nn.Module]:
    """Return what computes with the candidate's weights, by paths of the dense projections."""
    shaped: dict[str, nn.Module] = {}
    # those of layers come first, and those in none are not shaped here
    candidate = zip(_of_layers(structure), kept_counts.tolist(), pruned_weights, strict=False)
    for component, count, weights in candidate:
        for projection in component.projections:
            if projection.path in weights:
                path = f"{structure.backbone.layer_paths[component.layer]}.{projection.path}"
                module = structure.backbone.model.get_submodule(path)
                pruned = weights[projection.path]
                shaped[path] = _reweighted(module, projection, count, pruned)
    return shaped


def _reweighted(
    module: nn.Module, projection: Projection, count: int, pruned: LinearWeights
) -> nn.Module:
    """Return a projection with the candidate's weights for the units that it keeps."""
    dense = matrix(module)
    weight, offset = dense.clone(), bias(module)
    kept_features = torch.from_numpy(projection.units < count).to(dense.device)
    if projection.side == "rows":
        weight[kept_features] = pruned.weight.to(dense)
    else:
        weight[:, kept_features] = pruned.weight.to(dense)
        offset = offset if pruned.bias is None else pruned.bias.to(dense)
    return _Reweighted(weight, offset)


def _gated(
    structure: ModelStructure,
    gates: Sequence[Tensor],
    kept_counts: NDArray[np.int_],
    shaped: Mapping[str, nn.Module],
) -> dict[str, nn.Module]:
    """Return modules by path, and with them copies of all that are gated."""
    gated = {path: hookable(module) for path, module in shaped.items()}
    for component, gate, count in zip(_of_layers(structure), gates, kept_counts, strict=False):
        path = f"{structure.backbone.layer_paths[component.layer]}.{component.gated_path}"
        if path not in gated:
            gated[path] = hookable(structure.backbone.model.get_submodule(path))
        gated[path].register_forward_pre_hook(gate_hook(component, gate))
        if count == 0 and getattr(gated[path], "bias", None) is not None:
            gated[path].register_forward_hook(_without_bias)
    return gated


def gate_hook(component: Component, gate: Tensor) -> Callable[..., tuple[Any, ...]]:
    """Return a pre-hook of a component's gated module that multiplies units by a gate.

    Args:
        component: Whose units.
        gate: ``(units,)``
    """

    def hook(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return component.gated(args, gate)

    return hook


def _without_bias(module: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Subtract the bias: a dropped component adds none either."""
    assert isinstance(module.bias, Tensor)
    return output - module.bias


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Keep weights out of the graph, except those that ask for gradients inside the block."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)  # noqa: FBT003
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)  # noqa: FBT003
