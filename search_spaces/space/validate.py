"""The weights of a component as a choice: whether its matrices can be as sparse as asked."""

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
    """Refuse groups that the matrices of a component cannot be parted into.

    Args:
        component: The component.
        columns: Inputs of each of its projections, by path.
        widths: Units that its levels keep.
        patterns: To choose from.

    Raises:
        SettingsError: Naming the matrix and its width.
    """
    for projection in component.projections:
        wide = columns[projection.path]
        for count in widths:
            kept = wide if projection.side == "rows" else wide * count // component.unit_count
            for pattern in patterns:
                pattern.check_fits(kept, f"layers.{component.layer}.{projection.path}")


def check_expert_patterns(
    component: Component,
    stacks: Mapping[str, Tensor],
    widths: Sequence[int],
    patterns: Sequence[SparsityPattern],
) -> None:
    """Refuse groups that the matrices of experts cannot be parted into.

    Args:
        component: The experts.
        stacks: Theirs, by path.
        widths: Channels that each keeps at the levels; none: all.
        patterns: To choose from.

    Raises:
        SettingsError: Naming the stack and its width.
    """
    for stack, matrices in matrices_of(component.mixture, stacks):
        wide = matrices.shape[2]
        for kept in {wide, *widths} if stack.role == "down" else {wide}:
            for pattern in patterns:
                pattern.check_fits(kept, f"layers.{component.layer}.{stack.path}")
