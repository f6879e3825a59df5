"""Options of a component besides its units: sparsity, number formats, expert channels, top-k.

A dimension of options is a field of `BlockOptions`; here stand what each is called, and what a
component chooses from along it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from search_spaces.space.choices import Choices
from search_spaces.space.levels import channel_levels, top_k_levels
from search_spaces.space.number_format import STORED, NumberFormat
from search_spaces.space.sparsity import DENSE, SparsityPattern

if TYPE_CHECKING:  # its module loads torch, which reading a plan can do without
    from search_spaces.space.holds import Holds
    from search_spaces.structure.components import Component

OptionDimension = Literal["channels", "top_k", "pattern", "format", "cache", "stand_in"]
"""The fields of `BlockOptions`, in the order of a component's sites."""
SITE_NAMES: Mapping[OptionDimension, str] = {
    "channels": "channels",
    "top_k": "top_k",
    "pattern": "weights",
    "format": "format",
    "cache": "cache",
}
"""What follows the component's name in that of the site which chooses along a dimension; stand-ins
have none, for they follow from what is dropped."""
FORMAT_DIMENSIONS: frozenset[OptionDimension] = frozenset({"format", "cache"})
"""Those that choose a number format."""


@dataclass(frozen=True, kw_only=True)
class BlockOptions:
    """How the kept units of a component are stored and run; the defaults are the dense model's."""

    pattern: SparsityPattern = DENSE
    """Sparsity of its matrices."""
    channels: int = 0
    """Channels that each expert keeps; 0: all."""
    top_k: int = 0
    """Experts that run for a token; 0: as many as in the dense model."""
    format: NumberFormat = STORED
    """Of its matrices, once they are compensated and sparse."""
    cache: NumberFormat = STORED
    """Of the keys and values that it keeps of each token; the dense model's: the usual one."""
    stand_in: int = 0
    """Dropped components after it that its output projection stands in for."""

    @property
    def rewrites(self) -> bool:
        """Whether no matrix is a slice of the dense one."""
        return not self.pattern.is_dense or self.format != STORED

    @property
    def only_stands_in(self) -> bool:
        """Whether a stand-in is all that these options say."""
        return bool(self.stand_in) and replace(self, stand_in=0) == DENSE_OPTIONS

    @property
    def of_weights(self) -> "BlockOptions":
        """These options as far as weights depend on them."""
        return replace(self, top_k=0, cache=STORED)

    @property
    def dequantized(self) -> "BlockOptions":
        """These options with matrices in the dense model's number format."""
        return replace(self, format=STORED)

    @property
    def weights_name(self) -> str:
        """What the weights of a component depend on, in a few letters; empty: on its width alone.

        >>> BlockOptions(pattern=SparsityPattern(percent=50), channels=8, top_k=1).weights_name
        '50%-8ch'
        """
        pattern = "" if self.pattern.is_dense else str(self.pattern)
        channels = f"{self.channels}ch" if self.channels else ""
        number_format = "" if self.format == STORED else str(self.format)
        stand_in = f"for{self.stand_in}" if self.stand_in else ""
        return "-".join(filter(None, [pattern, channels, number_format, stand_in]))

    def __str__(self) -> str:
        top_k = f"top-{self.top_k}" if self.top_k else ""
        cache = "" if self.cache == STORED else f"{self.cache} cache"
        return " ".join(filter(None, [self.weights_name, top_k, cache])) or "dense"


DENSE_OPTIONS = BlockOptions()
"""The options of the dense model."""


def combined_options(
    patterns: Sequence[SparsityPattern] = (DENSE,),
    channels: Sequence[int] = (0,),
    top_ks: Sequence[int] = (0,),
    formats: Sequence[NumberFormat] = (STORED,),
    caches: Sequence[NumberFormat] = (STORED,),
    stand_ins: Sequence[int] = (0,),
) -> tuple[BlockOptions, ...]:
    """Return all combinations, the dense options first.

    >>> options = combined_options([DENSE, SparsityPattern(percent=50)], [0, 8])
    >>> list(map(str, options))
    ['dense', '50%', '8ch', '50%-8ch']

    Args:
        patterns: The dense one first, then by falling density.
        channels: Channels of each expert, 0 first, then falling.
        top_ks: 0 first, then falling.
        formats: That of the dense model first, then by falling size.
        caches: Likewise.
        stand_ins: 0 first, then rising.
    """
    return tuple(
        BlockOptions(
            pattern=pattern,
            channels=count,
            top_k=top_k,
            format=number_format,
            cache=cache,
            stand_in=stand_in,
        )
        for stand_in, cache, number_format, top_k, count, pattern in product(
            stand_ins, caches, formats, top_ks, channels, patterns
        )
    )


def component_options(
    component: "Component",
    choices: Choices,
    holds: "Holds",
    patterns: Sequence[SparsityPattern] = (DENSE,),
    mlp_step: int | None = None,
    most_stood_in: int = 0,
) -> tuple[BlockOptions, ...]:
    """Return the options that a component chooses among, the dense ones first.

    Args:
        component: Of a model.
        choices: What may be pruned.
        holds: What can be held of the model, and the number formats of its components.
        patterns: Sparsity patterns, the dense one first.
        mlp_step: Channels between levels; None: chosen for the width.
        most_stood_in: Components after it that it may stand in for.
    """
    if not component.is_droppable:
        patterns = (DENSE,)  # and rows of tokens are as they are
    formats = holds.formats_of(component)
    channels = [
        count
        for count in (channel_levels(component, mlp_step)[-2::-1] if choices.channels else ())
        if formats.holds_channels(component, count)
    ]
    top_ks = top_k_levels(component)[-2::-1] if choices.top_k else ()
    caches = holds.caches[1:] if choices.cache and component.cached_features else ()
    options = combined_options(
        patterns,
        (0, *channels),
        (0, *top_ks),
        (STORED, *formats.formats),
        (STORED, *caches),
        range(most_stood_in + 1),
    )
    return tuple(
        each
        for each in options
        if each == DENSE_OPTIONS or not holds.refusal(component, component.unit_count, each)
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
