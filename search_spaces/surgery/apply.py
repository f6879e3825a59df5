"""Giving the layers of a sorted model the forms that a candidate chose."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from search_spaces.pruned_weights.types import Level, Matrix
from search_spaces.space.block_options import PLAIN, Variant, variants_of
from search_spaces.space.sparsity import Pattern
from search_spaces.structure.components import SubBlock
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import narrowed


class Levels(Protocol):
    """Knows the weights of sub-blocks that are more than a part of the dense ones."""

    def level(self, position: int, count: int, pattern: Pattern) -> Level:
        """Give them for one sub-block, the units that it keeps and its pattern."""
        ...


class ExpertLevels(Protocol):
    """Knows the weights of mixtures of experts that are more than a part of the dense ones."""

    def level(self, position: int, count: int, variant: Variant) -> Level:
        """Give them for one mixture, the units that it keeps and how they are thinned out."""
        ...


class Shaper:
    """Turns forms into layers, which share what they can with the dense model.

    Args:
        structure: The model, its units sorted so that the first ones stay.
        variants: For each sub-block how it may be thinned out, the dense way first; none: not.
        levels: Where compensated and sparse weights come from; none: all are the dense model's.
        expert_levels: Likewise those of experts.
    """

    def __init__(
        self,
        structure: ModelStructure,
        variants: Sequence[Sequence[Variant]] | None = None,
        levels: Levels | None = None,
        expert_levels: ExpertLevels | None = None,
    ) -> None:
        blocks = structure.sub_blocks
        self.variants = tuple(variants or [variants_of()] * len(blocks))
        self._structure = structure
        self._blocks = blocks
        self.levels = levels
        self.expert_levels = expert_levels

    def layer(self, index: int, forms: NDArray[np.int_]) -> nn.Module:
        """Give a layer whose sub-blocks have these forms, ``(sub_blocks,)``."""
        start = self._structure.spans[index].start
        choices: list[tuple[SubBlock, int]] = []
        level: dict[str, Matrix] = {}
        thinned = PLAIN
        for position, form in enumerate(forms.tolist(), start):
            block, count, variant = self._read(position, form)
            choices.append((block, count))
            level |= self.level(position, form)
            if block.experts is not None:
                thinned = variant
        return narrowed(self._structure.backbone.layers[index], choices, level, thinned)

    def level(self, position: int, form: int) -> Level:
        """Give the weights of a form that are not plain parts of the dense ones, by path."""
        block, count, variant = self._read(position, form)
        if form in (0, block.unit_count):
            return {}
        if block.experts is not None:
            own = self.expert_levels
            return {} if own is None else own.level(position, count, variant)
        return {} if self.levels is None else self.levels.level(position, count, variant.pattern)

    def _read(self, position: int, form: int) -> tuple[SubBlock, int, Variant]:
        block = self._blocks[position]
        variant, count = divmod(form, block.unit_count + 1)
        return block, count, self.variants[position][variant]
