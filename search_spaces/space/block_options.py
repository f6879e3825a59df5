"""How what a component keeps is thinned out, beside how many units it keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from search_spaces.space.sparsity import DENSE, SparsityPattern


@dataclass(frozen=True, kw_only=True)
class BlockOptions:
    """One way to thin out what is kept; the first of a component's is the dense one."""

    pattern: SparsityPattern = DENSE
    """How sparse its matrices are."""
    channels: int = 0
    """Channels that each expert keeps; 0: all."""
    top_k: int = 0
    """Experts that run for a token; 0: as many as in the dense model."""


DENSE_OPTIONS = BlockOptions()
"""The dense way."""


def combined_options(
    patterns: Sequence[SparsityPattern] = (DENSE,),
    channels: Sequence[int] = (0,),
    top_ks: Sequence[int] = (0,),
) -> tuple[BlockOptions, ...]:
    """Give all combinations, the pattern changing fastest and the number that run slowest.

    The position of a combination is then the sum of those of its parts alone.

    Args:
        patterns: The dense one first.
        channels: 0 first.
        top_ks: 0 first.
    """
    return tuple(
        BlockOptions(pattern=pattern, channels=count, top_k=top_k)
        for top_k, count, pattern in product(top_ks, channels, patterns)
    )


@dataclass(frozen=True, kw_only=True)
class ExpertCut:
    """How the experts that a plan keeps are thinned out."""

    channels: NDArray[np.int_] | None = None
    """Of each kept expert the channels that stay, ``(kept, channels)``; none: all."""
    top_k: int = 0
    """Experts that run for a token; 0: as many as in the dense model."""


UNCUT = ExpertCut()
