"""Sparse experts: every matrix in the stacks of a mixture by itself."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from search_spaces.errors import SettingsError
from search_spaces.pruned_weights.sparsifiers.protocol import Sparsifier
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName
from search_spaces.structure.mixture import Mixture, Stack, StackRole

_ENERGIES: Mapping[StackRole, StatisticName] = {
    "up": "expert_input_energy",
    "down": "expert_channel_energy",
}
"""Mean squares of the inputs of an expert's matrices, each token weighted by the router."""


class StackMethod(Protocol):
    """What is done to every matrix of a stack by itself: a sparsifier or a quantiser."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What it reads of a matrix."""
        ...


def stack_statistics(method: StackMethod) -> frozenset[StatisticName]:
    """Return what must be collected of a mixture for what is done to its stacks.

    Raises:
        SettingsError: If it needs what is not collected of single experts.
    """
    if not method.statistics:
        return frozenset()
    if method.statistics - {"input_second_moment"}:
        raise SettingsError(
            "experts can be made sparse by what is measured of each of their inputs alone, and "
            f"`{type(method).__name__}` needs {', '.join(sorted(method.statistics))}; "
            "choose `moe_pruner`, `wanda`, `magnitude` or `random`, or no sparse experts"
        )
    return frozenset(_ENERGIES.values())


def sparse_stacks(
    experts: Mixture,
    stacks: Mapping[str, Tensor],
    pattern: SparsityPattern,
    sparsifier: Sparsifier,
    statistics: MatrixStatistics,
) -> dict[str, Tensor]:
    """Make the matrices of all experts sparse, each with the zeros of a pattern.

    The mean square of an expert's inputs is taken with the router's weights. An expert to which no
    token was sent has none, and its weights are compared by their size.

    Args:
        experts: The mixture.
        stacks: Its stacks by path, ``(experts, ...)`` in float32; they stay as they are. They may
            hold some of the experts and channels only.
        pattern: Of every matrix.
        sparsifier: One that `stack_statistics` does not refuse.
        statistics: Of the same experts and channels, as `stack_statistics` declares.

    Returns:
        The stacks that hold matrices, by path; those of biases are left out.

    Raises:
        SettingsError: If the pattern does not fit a matrix.
    """
    sparse_by_path = {}
    for stack in experts.matrices:
        matrices = stack.as_matrices(stacks[stack.path])
        pattern.check_fits(matrices.shape[2], stack.path)
        sparse = torch.stack(
            [
                sparsifier.sparsified(
                    matrix.contiguous(),
                    pattern,
                    expert_statistics(sparsifier, stack, statistics, expert).to(matrix.device),
                )
                for expert, matrix in enumerate(matrices)
            ]
        )
        sparse_by_path[stack.path] = stack.as_matrices(sparse).contiguous()
    return sparse_by_path


def expert_statistics(
    method: StackMethod, stack: Stack, statistics: MatrixStatistics, expert: int
) -> MatrixStatistics:
    """Return the statistics of one expert's matrix, as far as a method reads them."""
    values: dict[StatisticName, Tensor] = {}
    if method.statistics:
        energy = statistics[_ENERGIES[stack.role]][expert]
        has_tokens = bool((energy > 0).any())
        values["input_second_moment"] = energy if has_tokens else torch.ones_like(energy)
    return MatrixStatistics(tokens=statistics.tokens, values=values)
