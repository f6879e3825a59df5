"""Checks that the matrices of a component can have the requested sparsity patterns."""

from collections.abc import Sequence

from torch import nn

from search_spaces.space.sparsity import SparsityPattern
from search_spaces.structure.components import Component


def check_patterns(
    component: Component,
    layer: nn.Module,
    units: Sequence[int],
    channels: Sequence[int],
    patterns: Sequence[SparsityPattern],
) -> None:
    """Refuse patterns with groups that do not divide the matrices of a component.

    Args:
        component: The component.
        layer: The dense layer that holds it.
        units: Numbers of units at its levels, none of them 0.
        channels: Numbers of channels of each member at the levels; empty: all.
        patterns: To choose from.

    Raises:
        SettingsError: If one does not fit; names the matrix and its width.
    """
    for weight in component.unit_weights(layer):
        if weight.role != "matrix":
            continue
        columns, whole, counts = weight.tensor.shape[-1], component.unit_count, units
        if weight.is_stacked:
            whole, counts = component.channel_count, channels
        narrow = [columns * count // whole for count in counts if weight.side == "columns"]
        for width in (*narrow, columns):
            for pattern in patterns:
                pattern.check_fits(width, f"layers.{component.layer}.{weight.path}")
