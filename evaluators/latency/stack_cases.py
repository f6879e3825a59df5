"""Which stacks of a model's layers are timed for its latency table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from evaluators.latency.latency_setting import layer_kinds, timed_formats, timed_inside
from evaluators.runtime import RuntimeName
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions, ExpertPruning
from search_spaces.space.number_format import STORED, NumberFormat
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

MOST_LAYERS = 32
"""In a stack."""
MOST_BYTES = 2**31
"""Of copied weights in a stack, unless two layers take more."""
POINTS = (1 / 16, 1 / 4, 1 / 2, 3 / 4, 1)
"""Widths at which an MLP is timed, and an attention of many groups."""
FEW_UNITS = 6
"""Up to here every count is timed."""
ALIGNMENT = 16
"""Timed widths are multiples, as levels are: others are slower."""


@dataclass(frozen=True, kw_only=True)
class StackCase:
    """Layers of one kind, all pruned to the same widths."""

    layers: tuple[int, ...]
    kept: tuple[int, ...]
    """Units kept of each of the layer's components."""
    options: BlockOptions = DENSE_OPTIONS
    """Of the component that is kept."""
    ends: NumberFormat = STORED
    """Of the embedding and the head."""

    def of_layer(
        self, components: Sequence[Component]
    ) -> list[tuple[Component, NDArray[np.int_], ExpertPruning]]:
        """Return the components of a layer with the members that they keep, and of these what."""
        chosen = []
        for component, count in zip(components, self.kept, strict=True):
            members = np.sort(component.members(np.arange(component.member_count), count))
            channels = np.tile(np.arange(self.options.channels), (len(members), 1))
            inside = ExpertPruning(
                channels=channels if self.options.channels else None, top_k=self.options.top_k
            )
            chosen.append((component, members, inside))
        return chosen

    def shorter(self, count: int) -> "StackCase":
        """Return a stack of its first layers only."""
        return replace(self, layers=self.layers[:count])


@dataclass(frozen=True, kw_only=True)
class KindCases:
    """What is timed of one kind of layer: a long and a short stack, and one of each width."""

    group: tuple[int, ...]
    """All layers of the kind; the stacks may have fewer."""
    long: StackCase
    short: StackCase
    """The same of fewer layers; the two tell a layer's time from that of all else."""
    widths: tuple[StackCase, ...]
    """Each keeps one component of each layer only; of number formats all of it."""
    ends: tuple[StackCase, ...] = ()
    """The short stack with the ends in each of their number formats."""

    @property
    def cases(self) -> list[StackCase]:
        """All, each once."""
        return list(dict.fromkeys([self.short, self.long, *self.widths, *self.ends]))


def list_cases(
    structure: ModelStructure,
    block_options: Sequence[Sequence[BlockOptions]],
    *,
    bare_layers: bool,
    runtime: RuntimeName = "torch",
) -> list[KindCases]:
    """List what is timed of a model, for each kind of layer.

    Args:
        structure: The model.
        block_options: For each component its options.
        runtime: That times it.
        bare_layers: Whether layers that keep nothing can be timed: the two stacks are half and
            all of these, or else one and all layers with their last component at its narrowest.
    """
    first, *others = [
        _of_kind(structure, group, block_options, runtime, bare_layers=bare_layers)
        for group in layer_kinds(structure)
    ]
    of_ends = block_options[len(structure.in_layers) :]
    formats = timed_formats(structure.ends, of_ends, runtime)
    return [
        replace(first, ends=tuple(replace(first.short, ends=each) for each in formats)),
        *others,
    ]


def _of_kind(
    structure: ModelStructure,
    group: tuple[int, ...],
    block_options: Sequence[Sequence[BlockOptions]],
    runtime: RuntimeName,
    *,
    bare_layers: bool,
) -> KindCases:
    first, span = structure.layers[group[0]], structure.spans[group[0]]
    weight_bytes = sum(w.nbytes for w in structure.backbone.layers[group[0]].parameters())
    room = min(MOST_LAYERS, MOST_BYTES // max(1, weight_bytes))
    # a decoder may run no more of them than its model has blocks
    layers = group[: min(max(2, room), len(structure.backbone.stack.blocks))]
    bare = StackCase(layers=layers, kept=(0,) * len(first.components))
    widths: list[StackCase] = []
    narrowest = bare
    for place, (component, component_options) in enumerate(
        zip(first.components, block_options[span], strict=True)
    ):
        formats = timed_formats((component,), (component_options,), runtime)
        timed = _timed(component, component_options, formats)
        stacks = [
            replace(
                bare, kept=(*bare.kept[:place], count, *bare.kept[place + 1 :]), options=inside
            )
            for count, inside in timed
        ]
        narrowest = stacks[0]
        widths += stacks
    long = bare if bare_layers else narrowest
    short = long.shorter(len(layers) // 2 if bare_layers else 1)
    return KindCases(group=group, long=long, short=short, widths=tuple(widths))


def _timed(
    component: Component,
    block_options: Iterable[BlockOptions],
    formats: Iterable[NumberFormat] = (),
) -> list[tuple[int, BlockOptions]]:
    """List the numbers of units, each with options, at which a component is timed."""
    counts = {count for count in timed_counts(component.unit_count) if count >= component.lowest}
    counts |= set(component.timed_counts)
    top_ks, channels = timed_inside(component, list(block_options))
    widths = [
        (count, BlockOptions(channels=width, top_k=top_k))
        for count, top_k, width in product(sorted(counts), top_ks, channels)
    ]
    count, whole = widths[-1]
    return [*widths, *((count, replace(whole, format=each)) for each in formats)]


def timed_counts(unit_count: int) -> list[int]:
    """Return the numbers of units to time, ascending, the last all units.

    Example:
        >>> timed_counts(1536)
        [96, 384, 768, 1152, 1536]
    """
    if unit_count <= FEW_UNITS:
        return list(range(1, unit_count + 1))
    step = ALIGNMENT if unit_count > ALIGNMENT * len(POINTS) else 1
    aligned = {max(1, round(unit_count * point / step)) * step for point in POINTS[:-1]}
    return [*sorted(count for count in aligned if count < unit_count), unit_count]
