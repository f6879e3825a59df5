"""Checks that the matrices of a component can have the requested sparsity patterns."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from search_spaces.space.sparsity import SparsityPattern
from search_spaces.structure.components import Component
from search_spaces.structure.expert_tensors import matrices_of


def check_patterns(
    component: Component,
    columns: Mapping[str, int],
    widths: Sequence[int],
    patterns: Sequence[SparsityPattern],
) -> None:
    """Refuse patterns with groups that do not divide the matrices of a component.

    Args:
        component: The component.
        columns: Inputs of each of its projections, by path.
        widths: Numbers of units at its levels.
        patterns: To choose from.

    Raises:
        SettingsError: If one does not fit; names the matrix and its width.
    """
    for projection in component.projections:
        dense_columns = columns[projection.path]
        for count in widths:
            kept_columns = (
                dense_columns
                if projection.side == "rows"
                else dense_columns * count // component.unit_count
            )
            for pattern in patterns:
                pattern.check_fits(kept_columns, f"layers.{component.layer}.{projection.path}")


def check_expert_patterns(
    component: Component,
    stacks: Mapping[str, Tensor],
    widths: Sequence[int],
    patterns: Sequence[SparsityPattern],
) -> None:
    """Refuse patterns with groups that do not divide the matrices of experts.

    Args:
        component: The experts.
        stacks: Their stacks, by path.
        widths: Channels of each expert at the levels; empty: all.
        patterns: To choose from.

    Raises:
        SettingsError: If one does not fit; names the stack and its width.
    """
    for stack, matrices in matrices_of(component.mixture, stacks):
        dense_columns = matrices.shape[2]
        for count in {dense_columns, *widths} if stack.role == "down" else {dense_columns}:
            for pattern in patterns:
                pattern.check_fits(count, f"layers.{component.layer}.{stack.path}")
