"""Levels of each kind of component: the numbers of units, channels or experts to choose from."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # its module loads torch, which reading a plan can do without
    from collections.abc import Sequence

    from search_spaces.structure.components import Component

LARGEST_STEP = 128
"""Channels between levels by default: a multiple of what matrix units and quantised blocks use."""
FEWEST_LEVELS = 8
"""Levels that the default step leaves at least, where the width allows it."""
ALIGNED_CHANNELS = 8
"""Divides the channels of an exportable expert: the kernel that transformers runs experts with
takes rows of 16 bytes, which are 8 channels in 16-bit numbers."""


MOST_STOOD_IN = 8
"""Components, four layers, that one stands in for: each number takes weights of its own."""


def fine_levels(component: "Component") -> tuple[int, ...]:
    """Return every number of units that can be kept: none, then from the fewest to all."""
    return (0, *range(component.lowest, component.unit_count + 1))


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


def channel_levels(component: "Component", step: int | None = None) -> tuple[int, ...]:
    """Return the numbers of channels of each member to choose from, all of them last.

    Args:
        component: Whose members may have channels of their own; without, there is no choice.
        step: Channels between levels; None: as for an MLP of that width, but no fewer than kernels
            take.
    """
    if not component.channel_count:
        return ()
    inner = replace(component, unit_count=component.channel_count)
    if step is None:
        step = max(ALIGNED_CHANNELS, mlp_levels(inner)[1])
    return tuple(count for count in mlp_levels(inner, step) if count)


def top_k_levels(component: "Component") -> tuple[int, ...]:
    """Return how many members may run for a token, as many as in the dense model last."""
    return tuple(range(component.least_top_k, component.top_k + 1))


def stand_in_reach(components: "Sequence[Component]") -> tuple[int, ...]:
    """Return how many of the components after each one it may stand in for."""
    reach, run = [], 0
    for component in reversed(components):
        reach.append(min(run, MOST_STOOD_IN) if component.adds_output else 0)
        run = run + 1 if component.adds_output else 0
    return tuple(reach[::-1])


def stood_in_for(asked: NDArray[np.bool_], stands: NDArray[np.bool_]) -> NDArray[np.int_]:
    """Return how many of the components after each one it stands in for.

    Of the dropped components that ask for a stand-in, those that follow each other have one
    together: the component before the first of them, if it is kept and may. Of a longer run than
    it can stand in for, the last ones are dropped for good, as all are where none may.

    >>> asked = np.array([False, True, True, False, False, True])
    >>> stood_in_for(asked, np.array([True, False, False, True, False, False])).tolist()
    [2, 0, 0, 0, 0, 0]

    Args:
        asked: Which components are dropped and ask for it, ``(..., components)``.
        stands: Which are kept and may stand in, likewise.
    """
    counts = np.zeros(asked.shape, dtype=np.int_)
    run = np.zeros(asked.shape[:-1], dtype=np.int_)
    for position in reversed(range(asked.shape[-1])):
        counts[..., position] = np.where(stands[..., position], np.minimum(run, MOST_STOOD_IN), 0)
        run = np.where(asked[..., position], run + 1, 0)
    return counts
