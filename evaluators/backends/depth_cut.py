"""Cutting a model into stretches of layers, for processes none of which could hold it whole."""

from collections.abc import Sequence
from functools import cache
from itertools import accumulate, pairwise


def cut_by_bytes(layer_bytes: Sequence[int], stages: int) -> list[range]:
    """Cut layers into stretches so that the largest takes the fewest bytes.

    Args:
        layer_bytes: Of each layer in the order in which they run.
        stages: Stretches, at most as many as layers.

    Returns:
        The layers of each stage, at least one.

    Example:
        >>> cut_by_bytes([5, 1, 1, 1, 1], 2)
        [range(0, 1), range(1, 5)]
    """
    before = [0, *accumulate(layer_bytes)]

    @cache
    def least(stop: int, count: int) -> tuple[int, tuple[int, ...]]:
        """Return the bytes of the largest stretch of the first layers, and where each begins."""
        if count == 1:
            return before[stop], (0,)
        found = []
        for start in range(count - 1, stop):
            largest, starts = least(start, count - 1)
            found.append((max(largest, before[stop] - before[start]), (*starts, start)))
        return min(found)

    _, starts = least(len(layer_bytes), stages)
    return [range(*ends) for ends in pairwise([*starts, len(layer_bytes)])]
