"""How cut layers are grouped: into blocks that hold exactly one attention each.

A key–value cache has one entry a block, so a model without attention in some layers must be
regrouped, or its cache and masks would be wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.space.block_options import DENSE_EXPERTS, ExpertPruning
from search_spaces.structure.model import ModelStructure

SublayerEntry = int | str | dict[str, Any]
"""What represents an attention, an MLP or a mixture of experts in ``sublayers``."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One layer of the exported model, from one or two layers of the dense one."""

    layers: tuple[int, ...]
    """The dense layers that it is made from."""
    attention: int | None = None
    """The dense layer whose attention it has."""
    feed_forward: int | None = None
    """The dense layer whose MLP it has, or whose experts and shared expert."""

    def entries(
        self, feed_forwards: Sequence[SublayerEntry], *, sequential: bool
    ) -> list[tuple[SublayerEntry, int]]:
        """Return what represents the part in ``sublayers``, with the dense layer that it is from.

        Args:
            feed_forwards: Of each dense layer, as `feed_forward_entries` returns them.
            sequential: As `is_sequential` returns.
        """
        first, last = self.layers[0], self.layers[-1]
        entry = 0 if self.feed_forward is None else feed_forwards[self.feed_forward]
        if self.attention is None:
            return [(entry, last)]
        if self.feed_forward is None:
            return [("attn", first)]
        if sequential:
            return [("attn", first), (entry, last)]
        both = {"attn": True, **entry} if isinstance(entry, dict) else f"attn+{entry}"
        return [(both, first)]


def feed_forward_entries(
    structure: ModelStructure,
    counts: NDArray[np.int_],
    expert_prunings: Sequence[ExpertPruning] | None = None,
) -> list[SublayerEntry]:
    """Return what each layer keeps besides its attention: MLP channels, or experts and sizes.

    Args:
        structure: The dense model.
        counts: Kept units of each component, ``(components,)``.
        expert_prunings: How the kept experts of each layer are pruned; None: they are not.
    """
    entries: list[SublayerEntry] = []
    for index, layer in enumerate(structure.layers):
        pruning = expert_prunings[index] if expert_prunings else DENSE_EXPERTS
        kept_counts = counts[structure.spans[index]][1:].tolist()
        entry: dict[str, Any] = {}
        for component, count in zip(layer.feed_forward, kept_counts, strict=True):
            entry[component.kind] = count
            if component.experts is not None and count:
                channels = pruning.channels
                entry["channels"] = (
                    component.experts.channel_count if channels is None else channels.shape[1]
                )
                entry["top_k"] = pruning.top_k or component.experts.top_k
        entries.append(entry.get("mlp", entry))
    return entries


def is_sequential(structure: ModelStructure) -> bool:
    """Return whether an attention and an MLP of different layers can run as one layer.

    They cannot if the two share a norm, or read the same input side by side.
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
    kinds = [tuple(component.kind for component in layer.components) for layer in structure.layers]
    parts: list[Part] = []
    for index, layer in enumerate(structure.layers):
        kept_counts = counts[structure.spans[index]]
        attention = index if kept_counts[0] else None
        feed_forward = index if kept_counts[1:].any() else None
        if attention is None and feed_forward is None and layer.vanishes:
            continue
        joins = sequential and attention is None and parts and parts[-1].feed_forward is None
        # both halves of one layer must come from layers of one kind: with an MLP, or with experts
        if joins and kinds[parts[-1].layers[0]] == kinds[index]:
            previous = parts.pop()
            layers = (*previous.layers, index)
            parts.append(
                Part(layers=layers, attention=previous.attention, feed_forward=feed_forward)
            )
        else:
            parts.append(Part(layers=(index,), attention=attention, feed_forward=feed_forward))
    return parts


def describe_experts(structure: ModelStructure, entries: Sequence[SublayerEntry]) -> str:
    """Describe in a sentence what is kept of a model's experts; empty if it has none.

    Args:
        structure: The dense model.
        entries: As `feed_forward_entries` returns them.
    """
    components = [layer.experts for layer in structure.layers if layer.experts is not None]
    mixtures = [component.experts for component in components if component.experts is not None]
    if not mixtures:
        return ""
    expert_entries = [entry for entry in entries if isinstance(entry, dict)]
    kept_entries = [entry for entry in expert_entries if entry["experts"]]

    def between(name: str, total: int) -> str:
        values = sorted({entry[name] for entry in kept_entries})
        return f"{'–'.join(map(str, dict.fromkeys((values[0], values[-1]))))} of {total}"

    drop_count = len(expert_entries) - len(kept_entries)
    dropped = (
        f"; {drop_count} of {len(expert_entries)} layers with experts have none left"
        if drop_count
        else ""
    )
    if not kept_entries:
        return "All experts are pruned."
    dense = mixtures[0]
    return (
        f"Of each layer's experts {between('experts', dense.count)} are kept, with "
        f"{between('channels', dense.channel_count)} channels; "
        f"{between('top_k', dense.top_k)} run for a token{dropped}."
    )
