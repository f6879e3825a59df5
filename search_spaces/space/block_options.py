"""Options of a component besides how many units it keeps: sparsity, expert channels and top-k."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from search_spaces.space.sparsity import DENSE, SparsityPattern


@dataclass(frozen=True, kw_only=True)
class BlockOptions:
    """How the kept units of a component are stored and run; the defaults are the dense model's."""

    pattern: SparsityPattern = DENSE
    """Sparsity of its matrices."""
    channels: int = 0
    """Channels that each expert keeps; 0: all."""
    top_k: int = 0
    """Experts that run for a token; 0: as many as in the dense model."""


DENSE_OPTIONS = BlockOptions()
"""The options of the dense model."""


def combined_options(
    patterns: Sequence[SparsityPattern] = (DENSE,),
    channels: Sequence[int] = (0,),
    top_ks: Sequence[int] = (0,),
) -> tuple[BlockOptions, ...]:
    """Return all combinations, the pattern changing fastest and top-k slowest.

    The position of a combination is then the sum of the positions of its parts alone:

    >>> sparse = SparsityPattern(percent=50)
    >>> options = combined_options([DENSE, sparse], [0, 8])
    >>> options.index(BlockOptions(pattern=sparse)), options.index(BlockOptions(channels=8))
    (1, 2)
    >>> options.index(BlockOptions(pattern=sparse, channels=8))
    3

    Args:
        patterns: The dense one first.
        channels: Channels of each expert, 0 first.
        top_ks: 0 first.
    """
    return tuple(
        BlockOptions(pattern=pattern, channels=count, top_k=top_k)
        for top_k, count, pattern in product(top_ks, channels, patterns)
    )


@dataclass(frozen=True, kw_only=True)
class ExpertPruning:
    """Pruning inside the experts that a plan keeps, and how many of them run."""

    channels: NDArray[np.int_] | None = None
    """The kept channels of each kept expert, ``(experts, channels)``; None: all."""
    top_k: int = 0
    """Experts that run for a token; 0: as many as in the dense model."""


DENSE_EXPERTS = ExpertPruning()
"""Kept experts as they are in the dense model."""
