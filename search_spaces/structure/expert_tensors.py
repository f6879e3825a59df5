"""The weights of experts, stacked as a model holds them or seen as matrices of each."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from search_spaces.structure.experts import Experts, Stack


def stacks_of(layer: nn.Module, experts: Experts) -> dict[str, Tensor]:
    """Give the stacks and the router's rows by their paths inside a layer, as stored."""
    paths = [*(stack.path for stack in experts.stacks), *experts.router_rows]
    return {path: tensor_at(layer, path) for path in paths}


def tensor_at(layer: nn.Module, path: str) -> Tensor:
    """Give a parameter or buffer by its path inside a layer."""
    holder, _, name = path.rpartition(".")
    tensor = getattr(layer.get_submodule(holder), name)
    assert isinstance(tensor, Tensor)
    return tensor


def as_matrices(stack: Stack, weight: Tensor) -> Tensor:
    """View a stack as matrices of outputs by inputs, ``(experts, rows, columns)``."""
    return weight.transpose(1, 2) if stack.transposed else weight


def matrices_of(experts: Experts, weights: Mapping[str, Tensor]) -> Iterator[tuple[Stack, Tensor]]:
    """Give the matrices of all experts, ``(experts, rows, columns)``, stack by stack.

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
    """Give the energy that each channel of each expert adds to the hidden states.

    Wanda's score of the columns through which it does, squared and summed, with the router's
    weights inside: ``E[(g a_c)²] · ‖W_:c‖²``.

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
