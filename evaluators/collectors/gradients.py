"""Gradients of the NLL by weights and by gates, window by window."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.hooks import RemovableHandle

from evaluators.collectors.names import OF_GATES, OF_WEIGHTS, Key
from evaluators.scoring.by_gradient.gate_gradients import frozen, gate_hook
from evaluators.scoring.likelihood import gradient_by_final
from search_spaces.statistics import StatisticName
from search_spaces.structure.hooks import hooked
from search_spaces.structure.linear import as_matrix
from search_spaces.structure.model import ModelStructure


@torch.inference_mode(mode=False)
@torch.no_grad()
def measure_gradients(
    structure: ModelStructure,
    windows: Tensor,
    names: frozenset[StatisticName],
    layers: Collection[int],
) -> dict[int, dict[Key, Tensor]]:
    """Differentiate each window's NLL (nats a token) by the matrices and gates of some layers.

    The gradient of a matrix is added up and released as soon as the backward pass has computed it.
    Matrices are summed in float32: in float64 the sums would be twice the model.

    Args:
        structure: The dense model, in memory.
        windows: Token ids ``(windows, tokens)``.
        names: Statistics by gradient, and no others.
        layers: Which layers.
    """
    backbone = structure.backbone
    sums_by_layer: dict[int, dict[Key, Tensor]] = {index: {} for index in layers}
    with frozen(backbone.model), _leaves(structure, names, sums_by_layer):
        for window in torch.split(windows.to(backbone.model.device), 1):
            _differentiate(structure, window)
    return {
        index: {key: (total / len(windows)).float().cpu() for key, total in sums.items()}
        for index, sums in sums_by_layer.items()
    }


def _differentiate(structure: ModelStructure, window: Tensor) -> None:
    """Run one window ``(1, tokens)`` forward and backward."""
    backbone = structure.backbone
    targets = window[0, 1:]
    with torch.enable_grad():
        final = backbone.decoder(input_ids=window, use_cache=False).last_hidden_state
    gradient = gradient_by_final(
        backbone.logits,
        final.detach(),
        lambda logits, part: cross_entropy(logits, targets[part], reduction="sum") / len(targets),
    )
    final.backward(gradient)


@contextmanager
def _leaves(
    structure: ModelStructure,
    names: frozenset[StatisticName],
    sums_by_layer: dict[int, dict[Key, Tensor]],
) -> Iterator[None]:
    """Let backward passes add up gradients of the matrices and gates of some layers."""
    hooks, weights = [], []
    for component in structure.components:
        if component.layer not in sums_by_layer:
            continue
        layer = structure.backbone.layers[component.layer]
        sums = sums_by_layer[component.layer]
        for path in component.statistic_paths("matrices") if names & OF_WEIGHTS else ():
            linear = layer.get_submodule(path)
            weight = linear.weight
            assert isinstance(weight, Tensor)
            weights.append(weight)
            add = _adder(sums, path, names & OF_WEIGHTS, linear)
            hooks.append(_on_gradient(weight.requires_grad_(), add))
        for path in component.statistic_paths("gates") if names & OF_GATES else ():
            output = layer.get_submodule(path)
            assert isinstance(output.weight, Tensor)
            gate = output.weight.new_ones(component.unit_count).requires_grad_()
            add = _adder(sums, path, names & OF_GATES, None)
            hooks.append(_on_gradient(gate, add))
            hooks.append(output.register_forward_pre_hook(gate_hook(component, gate)))
    try:
        with hooked(hooks):
            yield
    finally:
        for weight in weights:
            weight.requires_grad_(False).grad = None  # noqa: FBT003


def _on_gradient(leaf: Tensor, hook: Callable[[Tensor], None]) -> RemovableHandle:
    register = leaf.register_post_accumulate_grad_hook
    handle: RemovableHandle = register(hook)  # type: ignore[no-untyped-call]
    return handle


def _adder(
    sums: dict[Key, Tensor],
    path: str,
    names: frozenset[StatisticName],
    linear: nn.Module | None,
) -> Callable[[Tensor], None]:
    """Return a hook that adds up the gradient of a linear layer's matrix, or of a gate if none."""

    def add(leaf: Tensor) -> None:
        assert leaf.grad is not None
        gradient = leaf.grad.double() if linear is None else as_matrix(linear, leaf.grad.float())
        leaf.grad = None
        for name in names:
            term = gradient if name == "gradient" else gradient.square()
            if (name, path) in sums:
                sums[name, path] += term
            else:
                sums[name, path] = term.clone(memory_format=torch.contiguous_format)

    return add
