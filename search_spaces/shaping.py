"""Giving the layers of a sorted model the forms that a candidate chose."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from search_spaces.levels import Level, Matrix
from search_spaces.patterns import DENSE, Pattern
from search_spaces.structure.read import ModelStructure
from search_spaces.surgery import narrowed

if TYPE_CHECKING:
    from search_spaces.structure.sub_block import SubBlock


class Levels(Protocol):
    """Knows the weights of sub-blocks that are more than a part of the dense ones."""

    def level(self, position: int, count: int, pattern: Pattern) -> Level:
        """Give them for one sub-block, the units that it keeps and its pattern."""
        ...


class Shaper:
    """Turns forms into layers, which share what they can with the dense model.

    Args:
        structure: The model, its units sorted so that the first ones stay.
        patterns: Of sparsity, in the order of the space's; the first is dense.
        levels: Where compensated and sparse weights come from; none: all are the dense model's.
    """

    def __init__(
        self,
        structure: ModelStructure,
        patterns: Sequence[Pattern] = (DENSE,),
        levels: Levels | None = None,
    ) -> None:
        self.patterns = tuple(patterns)
        self._structure = structure
        self.levels = levels

    def layer(self, index: int, forms: NDArray[np.int_]) -> nn.Module:
        """Give a layer whose attention and MLP have these forms, ``(2,)``."""
        own = self._structure.layers[index]
        choices: list[tuple[SubBlock, int]] = []
        level: dict[str, Matrix] = {}
        for offset, block in enumerate((own.attention, own.mlp)):
            form = int(forms[offset])
            choices.append((block, form % (block.unit_count + 1)))
            level |= self.level(2 * index + offset, form)
        return narrowed(self._structure.backbone.layers[index], choices, level)

    def level(self, position: int, form: int) -> Level:
        """Give the weights of a form that are not plain parts of the dense ones, by path."""
        block = self._structure.sub_blocks[position]
        pattern, count = divmod(form, block.unit_count + 1)
        if self.levels is None or form in (0, block.unit_count):
            return {}
        return self.levels.level(position, count, self.patterns[pattern])
