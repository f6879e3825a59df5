"""How the cut layers are strung together: blocks that hold exactly one attention each.

A key–value cache has one entry a block, so a model without attention in some layers must be
regrouped, or its cache and its masks go wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_spaces.structure.read import ModelStructure


@dataclass(frozen=True, kw_only=True)
class Part:
    """One layer of the exported model, from one or two layers of the dense one."""

    layers: tuple[int, ...]
    """The dense layers that it is made from."""
    attention: int | None = None
    """The dense layer whose attention it has."""
    mlp: int | None = None
    """The dense layer whose MLP it has."""

    def words(self, widths: Sequence[int], *, sequential: bool) -> list[int | str]:
        """Give what stands for the part in ``sublayers``.

        Args:
            widths: Channels kept in the MLP of each dense layer.
            sequential: As `is_sequential` tells.
        """
        width = 0 if self.mlp is None else widths[self.mlp]
        if self.attention is None:
            return [width]
        if self.mlp is None:
            return ["attn"]
        return ["attn", width] if sequential else [f"attn+{width}"]


def is_sequential(structure: ModelStructure) -> bool:
    """Tell whether an attention and an MLP of different layers can run as one layer.

    They cannot where the two share a norm, or read the same input side by side.
    """
    return not any(layer.parallel or layer.shared for layer in structure.layers)


def arrange(structure: ModelStructure, counts: NDArray[np.int_]) -> list[list[Part]]:
    """Group what is kept into blocks.

    Args:
        structure: The dense model.
        counts: Kept units ``(sub_blocks,)``; at least one attention.

    Returns:
        The parts of each block, in the order in which they run.
    """
    blocks: list[list[Part]] = [[]]
    for part in _parts(structure, counts):
        starts = part.attention is not None
        if starts and any(other.attention is not None for other in blocks[-1]):
            blocks.append([])
        blocks[-1].append(part)
    return blocks


def _parts(structure: ModelStructure, counts: NDArray[np.int_]) -> list[Part]:
    sequential = is_sequential(structure)
    parts: list[Part] = []
    for index, layer in enumerate(structure.layers):
        attention = index if counts[2 * index] else None
        mlp = index if counts[2 * index + 1] else None
        if attention is None and mlp is None and layer.vanishes:
            continue
        if sequential and attention is None and parts and parts[-1].mlp is None:
            before = parts.pop()
            layers = (*before.layers, index)
            parts.append(Part(layers=layers, attention=before.attention, mlp=mlp))
        else:
            parts.append(Part(layers=(index,), attention=attention, mlp=mlp))
    return parts
