"""Weights of experts: stacked as a model holds them, or viewed as matrices of each expert."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from search_spaces.models.tensors import tensor_at
from search_spaces.structure.experts import Experts, Stack


def stacks_of(layer: nn.Module, experts: Experts) -> dict[str, Tensor]:
    """Return the stacks and the router's rows by their paths inside a layer, as stored."""
    paths = [*(stack.path for stack in experts.stacks), *experts.router_rows]
    return {path: tensor_at(layer, path) for path in paths}


def as_matrices(stack: Stack, weight: Tensor) -> Tensor:
    """Return a view of a stack as matrices of outputs by inputs, ``(experts, rows, columns)``."""
    return weight.transpose(1, 2) if stack.transposed else weight


def matrices_of(experts: Experts, weights: Mapping[str, Tensor]) -> Iterator[tuple[Stack, Tensor]]:
    """Yield the matrices of all experts, ``(experts, rows, columns)``, stack by stack.

    Args:
        experts: Of a layer.
        weights: Their stacks by path.
    """
    for stack in experts.stacks:
        if stack.role in ("up", "down"):
            yield stack, as_matrices(stack, weights[stack.path])


def output_energy(
    experts: Experts, weights: Mapping[str, Tensor], channel_energy: Tensor
) -> Tensor:
    """Return the energy that each channel of each expert adds to the hidden states.

    This is Wanda's score of the columns that read the channel, squared and summed, with the
    router's weights inside: ``E[(g a_c)²] · ‖W_:c‖²``.

    Args:
        experts: Of a layer.
        weights: Their stacks by path.
        channel_energy: The statistic ``expert_channel_energy``, ``(experts, channels)``.

    Returns:
        ``(experts, channels)``
    """
    down = experts.stack("down")
    columns = as_matrices(down, weights[down.path]).float().square().sum(dim=1)
    return columns * channel_energy.to(columns)
