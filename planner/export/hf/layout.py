"""How the cut layers are strung together: blocks that hold exactly one attention each.

A key–value cache has one entry a block, so a model without attention in some layers must be
regrouped, or its cache and its masks go wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.space.block_options import UNCUT, ExpertCut
from search_spaces.structure.model import ModelStructure

Word = int | str | dict[str, Any]
"""What stands for an attention, an MLP or a mixture of experts in ``sublayers``."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One layer of the exported model, from one or two layers of the dense one."""

    layers: tuple[int, ...]
    """The dense layers that it is made from."""
    attention: int | None = None
    """The dense layer whose attention it has."""
    feed_forward: int | None = None
    """The dense layer whose MLP it has, or whose experts and shared expert."""

    def words(self, feed_forwards: Sequence[Word], *, sequential: bool) -> list[tuple[Word, int]]:
        """Give what stands for the part in ``sublayers``, with the dense layer that it is from.

        Args:
            feed_forwards: Of each dense layer, as `feed_forward_words` gives them.
            sequential: As `is_sequential` tells.
        """
        first, last = self.layers[0], self.layers[-1]
        word = 0 if self.feed_forward is None else feed_forwards[self.feed_forward]
        if self.attention is None:
            return [(word, last)]
        if self.feed_forward is None:
            return [("attn", first)]
        if sequential:
            return [("attn", first), (word, last)]
        both = {"attn": True, **word} if isinstance(word, dict) else f"attn+{word}"
        return [(both, first)]


def feed_forward_words(
    structure: ModelStructure,
    counts: NDArray[np.int_],
    thinned: Sequence[ExpertCut] | None = None,
) -> list[Word]:
    """Give what each layer keeps beside its attention: channels of an MLP, or more of experts.

    Args:
        structure: The dense model.
        counts: Kept units, of experts all that stay, ``(components,)``.
        thinned: Of each layer, how its experts are thinned out; none: they are not.
    """
    words: list[Word] = []
    for index, layer in enumerate(structure.layers):
        own = thinned[index] if thinned else UNCUT
        kept = counts[structure.spans[index]][1:].tolist()
        word: dict[str, Any] = {}
        for block, count in zip(layer.feed_forward, kept, strict=True):
            word[block.kind] = count
            if block.experts is not None and count:
                channels = own.channels
                word["channels"] = (
                    block.experts.channel_count if channels is None else channels.shape[1]
                )
                word["top_k"] = own.top_k or block.experts.top_k
        words.append(word.get("mlp", word))
    return words


def is_sequential(structure: ModelStructure) -> bool:
    """Tell whether an attention and an MLP of different layers can run as one layer.

    They cannot where the two share a norm, or read the same input side by side.
    """
    return not any(layer.parallel or layer.shared for layer in structure.layers)


def arrange(structure: ModelStructure, counts: NDArray[np.int_]) -> list[list[Part]]:
    """Group what is kept into blocks.

    Args:
        structure: The dense model.
        counts: Kept units ``(components,)``; at least one attention.

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
    kinds = [tuple(block.kind for block in layer.components) for layer in structure.layers]
    parts: list[Part] = []
    for index, layer in enumerate(structure.layers):
        kept = counts[structure.spans[index]]
        attention = index if kept[0] else None
        feed_forward = index if kept[1:].any() else None
        if attention is None and feed_forward is None and layer.vanishes:
            continue
        joins = sequential and attention is None and parts and parts[-1].feed_forward is None
        # what becomes one layer must be of one make: an MLP or experts
        if joins and kinds[parts[-1].layers[0]] == kinds[index]:
            before = parts.pop()
            layers = (*before.layers, index)
            parts.append(
                Part(layers=layers, attention=before.attention, feed_forward=feed_forward)
            )
        else:
            parts.append(Part(layers=(index,), attention=attention, feed_forward=feed_forward))
    return parts


def describe_experts(structure: ModelStructure, words: Sequence[Word]) -> str:
    """Say in a sentence what stays of a model's experts; empty where it has none.

    Args:
        structure: The dense model.
        words: As `feed_forward_words` gives them.
    """
    found = [layer.experts for layer in structure.layers]
    blocks = [block.experts for block in found if block is not None and block.experts is not None]
    if not blocks:
        return ""
    own = [word for word in words if isinstance(word, dict)]
    standing = [word for word in own if word["experts"]]

    def between(name: str, whole: int) -> str:
        values = sorted({word[name] for word in standing})
        return f"{'–'.join(map(str, dict.fromkeys((values[0], values[-1]))))} of {whole}"

    gone = len(own) - len(standing)
    dropped = f"; {gone} of {len(own)} layers with experts have none any more" if gone else ""
    if not standing:
        return "All experts are gone."
    dense = blocks[0]
    return (
        f"Of each layer's experts {between('experts', dense.count)} stay, with "
        f"{between('channels', dense.channel_count)} channels; "
        f"{between('top_k', dense.top_k)} run for a token{dropped}."
    )
