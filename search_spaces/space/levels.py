"""Levels of each kind of component: the numbers of units, channels or experts to choose from."""

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # its module loads torch, which reading a plan can do without
    from search_spaces.structure.components import Component

LARGEST_STEP = 128
"""Channels between levels by default: a multiple of what matrix units and quantised blocks use."""
FEWEST_LEVELS = 8
"""Levels that the default step leaves at least, where the width allows it."""
ALIGNED_CHANNELS = 8
"""Divides the channels of an exportable expert: the kernel that transformers runs experts with
takes rows of 16 bytes, which are 8 channels in 16-bit numbers."""


def attention_levels(component: "Component") -> tuple[int, ...]:
    """Return every number of KV groups, from none to all."""
    return tuple(range(component.unit_count + 1))


def mlp_levels(component: "Component", step: int | None = None) -> tuple[int, ...]:
    """Return the numbers of channels to choose from: none, then steps of channels, then all.

    Args:
        component: The MLP.
        step: Channels between levels; None: the largest power of two up to 128 that divides the
            width and leaves at least eight levels.
    """
    width = component.unit_count
    if step is None:
        step = LARGEST_STEP
        while step > 1 and (width % step or width // step < FEWEST_LEVELS):
            step //= 2
    return (*range(0, width, step), width)


def expert_levels(component: "Component") -> tuple[int, ...]:
    """Return the numbers of units to choose from: none, then from what the router needs to all."""
    return (0, *range(component.mixture.lowest, component.unit_count + 1))


def channel_levels(component: "Component", step: int | None = None) -> tuple[int, ...]:
    """Return the numbers of channels of each expert to choose from, all of them last.

    Args:
        component: The experts.
        step: Channels between levels; None: as for an MLP of that width, but no fewer than kernels
            take.
    """
    inner = replace(component, unit_count=component.mixture.channel_count)
    if step is None:
        step = max(ALIGNED_CHANNELS, mlp_levels(inner)[1])
    return tuple(count for count in mlp_levels(inner, step) if count)


def top_k_levels(component: "Component") -> tuple[int, ...]:
    """Return how many experts may run for a token, as many as in the dense model last."""
    experts = component.mixture
    lowest = 1 if experts.top_k_attributes else experts.top_k
    return tuple(range(lowest, experts.top_k + 1))
