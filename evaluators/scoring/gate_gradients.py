"""What each unit is worth to a candidate: the gradient of KL by a gate on it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from evaluators.scoring.likelihood import slope_by_final
from search_spaces.pruned_weights.types import LinearWeights
from search_spaces.space.configuration import unit_counts, units_in
from search_spaces.structure.components import Component, Projection
from search_spaces.structure.hooks import hooked
from search_spaces.structure.linear import bias, matrix
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.apply import LayerBuilder

Slopes = tuple[NDArray[np.float64], ...]
"""For each component the derivative of KL by each unit's gate, ``(units,)``, in nats a token."""

PASSES = 3
"""Forward passes that one gradient costs: one forward, and a backward of about two."""


def gate_slopes(
    structure: ModelStructure,
    parts: Sequence[tuple[Tensor, Tensor]],
    configurations: NDArray[np.int_],
    layer_builder: LayerBuilder | None = None,
) -> Slopes:
    """Differentiate a candidate's KL to the dense model by a gate on every unit.

    A gate multiplies what a unit hands to its component's last projection: 1 keeps the unit, 0
    drops it. The candidate is the dense model with its gates; the slope of a dropped unit tells
    what restoring it promises, and that of a kept one what dropping it costs, to first order.

    Args:
        structure: The model, its units sorted.
        parts: Batches of token ids ``(windows, tokens)``, each with the dense model's final hidden
            states ``(windows, tokens, hidden)``.
        configurations: Of the candidate's components, ``(components,)``.
        layer_builder: Knows weights that are not the dense model's; a unit that comes back brings
            its dense weights.

    References:
        Michel, Levy & Neubig, 2019, "Are Sixteen Heads Really Better than One?" (gates on heads);
        Molchanov et al., 2017 (first-order Taylor).
    """
    model = structure.backbone.model
    kept = units_in(configurations, unit_counts(structure.components))
    layer_builder = layer_builder or LayerBuilder(structure)
    gates = [
        (torch.arange(component.unit_count, device=model.device) < count).to(model.dtype)
        for component, count in zip(structure.components, kept, strict=True)
    ]
    total = [torch.zeros(len(gate), dtype=torch.float64) for gate in gates]
    positions = sum(tokens.numel() - len(tokens) for tokens, _ in parts)
    for tokens, dense in parts:
        with torch.enable_grad(), frozen(model):
            leaves = [gate.clone().requires_grad_() for gate in gates]
            with (
                _shaped(structure, configurations, layer_builder),
                _gated(structure, leaves, kept),
            ):
                decoder = structure.backbone.decoder
                final = decoder(input_ids=tokens, use_cache=False).last_hidden_state
            found = torch.autograd.grad(
                final, leaves, _by_hidden(structure, final.detach(), dense), allow_unused=True
            )
        for component, slope in enumerate(found):
            if slope is not None:
                total[component] += slope.double().cpu()
    return tuple((sums / positions).numpy() for sums in total)


def _by_hidden(structure: ModelStructure, final: Tensor, dense: Tensor) -> Tensor:
    """Differentiate the sum of KL over positions by the final hidden states."""
    teacher = dense[:, :-1].flatten(0, 1)

    def cross_entropy(logits: Tensor, part: slice) -> Tensor:
        with torch.no_grad():
            wanted = structure.backbone.logits(teacher[part]).float().softmax(dim=-1)
        # the teacher's entropy does not depend on the candidate
        return -(wanted * functional.log_softmax(logits, dim=-1)).sum()

    return slope_by_final(structure.backbone, final, cross_entropy)


@contextmanager
def _shaped(
    structure: ModelStructure, configurations: NDArray[np.int_], layer_builder: LayerBuilder
) -> Iterator[None]:
    """Let the projections of the dense model compute with the candidate's weights."""
    changed: list[nn.Module] = []
    kept = units_in(configurations, unit_counts(structure.components)).tolist()
    # all before the first change, for a level that must be made may run the dense model
    levels = [
        layer_builder.level(position, int(configuration))
        for position, configuration in enumerate(configurations)
    ]
    for component, count, level in zip(structure.components, kept, levels, strict=True):
        for projection in component.projections:
            if projection.path in level:
                module = structure.backbone.layers[component.layer].get_submodule(projection.path)
                module.forward = _forward(module, projection, count, level[projection.path])
                changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _forward(
    module: nn.Module, projection: Projection, count: int, own: LinearWeights
) -> Callable[[Tensor], Tensor]:
    """Give a projection's forward with the candidate's weights for the units that it keeps."""
    dense = matrix(module)
    weight, offset = dense.clone(), bias(module)
    keep = torch.from_numpy(projection.units < count).to(dense.device)
    if projection.side == "rows":
        weight[keep] = own.weight.to(dense)
    else:
        weight[:, keep] = own.weight.to(dense)
        offset = offset if own.bias is None else own.bias.to(dense)
    return lambda inputs: functional.linear(inputs, weight, offset)


@contextmanager
def _gated(
    structure: ModelStructure, gates: Sequence[Tensor], kept: NDArray[np.int_]
) -> Iterator[None]:
    hooks = []
    for component, gate, count in zip(structure.components, gates, kept, strict=True):
        layer = structure.backbone.layers[component.layer]
        if component.experts is not None:
            holder = layer.get_submodule(component.experts.holder)
            hooks.append(holder.register_forward_pre_hook(expert_gate_hook(component, gate)))
            continue
        module = layer.get_submodule(component.projections[-1].path)
        hooks.append(module.register_forward_pre_hook(gate_hook(component, gate)))
        if count == 0 and getattr(module, "bias", None) is not None:
            hooks.append(module.register_forward_hook(_without_bias))
    with hooked(hooks):
        yield


def gate_hook(component: Component, gate: Tensor) -> Callable[..., tuple[Tensor, ...]]:
    """Give a hook before a component's last projection that multiplies units by ``(units,)``."""
    units = torch.from_numpy(component.projections[-1].units).to(gate.device)

    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0] * gate[units], *args[1:])

    return hook


def expert_gate_hook(component: Component, gate: Tensor) -> Callable[..., tuple[Tensor, ...]]:
    """Give a hook before experts that multiplies their routing weights by ``(units,)``.

    What the router chooses stays what it is: a slope holds for the experts that run.
    """

    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, chosen, weights = args
        return hidden, chosen, weights * gate[chosen % component.unit_count]

    return hook


def _without_bias(module: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Take the bias off: a dropped component adds none either."""
    assert isinstance(module.bias, Tensor)
    return output - module.bias


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Keep weights out of the graph, but those that are asked for inside."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)  # noqa: FBT003
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)  # noqa: FBT003
