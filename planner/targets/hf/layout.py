"""How cut layers are grouped: into blocks that hold at most one attention each.

A key–value cache has one entry a block, so a model without attention in some layers must be
regrouped, or its cache and masks would be wrong.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from planner.targets.hf.wiring import Sizes, Wiring
from search_spaces.structure.model import ModelStructure

SublayerEntry = int | str | dict[str, Any]
"""What represents an attention, an MLP or a mixture of experts in ``sublayers``."""


@dataclass(frozen=True, kw_only=True)
class Sublayer:
    """One entry of a block's ``sublayers``."""

    entry: SublayerEntry
    layer: int
    """The layer that it is from."""
    kinds: frozenset[str]
    """The kinds of component that it stands for."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One layer of the exported model, from one or two layers of the one that was cut."""

    layers: tuple[int, ...]
    """The layers that it is made from."""
    attention: int | None = None
    """The layer whose attention it has."""
    feed_forward: int | None = None
    """The layer whose MLP it has, or whose experts and shared expert."""

    def sublayers(self, sizes: Sequence[Sizes], *, sequential: bool) -> list[Sublayer]:
        """Return what represents the part in ``sublayers``.

        Args:
            sizes: What each layer keeps.
            sequential: As `Wiring` says.
        """
        first, last = self.layers[0], self.layers[-1]
        kinds = frozenset(sizes[last])
        rest = 0 if self.feed_forward is None else _entry(sizes[self.feed_forward])
        attention = Sublayer(entry="attn", layer=first, kinds=frozenset({"attention"}))
        if self.attention is None:
            return [Sublayer(entry=rest, layer=last, kinds=kinds)]
        if self.feed_forward is None:
            return [attention]
        if sequential:
            others = kinds - attention.kinds
            return [attention, Sublayer(entry=rest, layer=last, kinds=others)]
        both = {"attn": True, **rest} if isinstance(rest, dict) else f"attn+{rest}"
        return [Sublayer(entry=both, layer=first, kinds=kinds)]


def _entry(sizes: Sizes) -> SublayerEntry:
    """Return what stands for all that a layer keeps besides its attention."""
    entry = {name: size for name, size in sizes.items() if name != "attention"}
    return entry.get("mlp", entry)


def arrange(structure: ModelStructure, wiring: Wiring, sizes: Sequence[Sizes]) -> list[list[Part]]:
    """Group what is kept into blocks.

    Args:
        structure: The model that was cut.
        wiring: Of it.
        sizes: What each layer keeps.

    Returns:
        The parts of each block, in the order in which they run.
    """
    blocks: list[list[Part]] = [[]]
    for part in _parts(structure, wiring, sizes):
        starts = part.attention is not None
        if starts and any(other.attention is not None for other in blocks[-1]):
            blocks.append([])
        blocks[-1].append(part)
    return blocks


def _parts(structure: ModelStructure, wiring: Wiring, sizes: Sequence[Sizes]) -> list[Part]:
    parts: list[Part] = []
    for index, layer in enumerate(structure.layers):
        attention = index if sizes[index].get("attention") else None
        feed_forward = index if any(_kept(sizes[index]) - {"attention"}) else None
        if attention is None and feed_forward is None and layer.vanishes:
            continue
        joins = wiring.sequential and attention is None and parts and _is_half(parts[-1])
        # both halves of one layer must come from layers of one kind: with an MLP, or with experts
        if joins and wiring.kind(parts[-1].layers[0]) is wiring.kind(index):
            previous = parts.pop()
            layers = (*previous.layers, index)
            parts.append(
                Part(layers=layers, attention=previous.attention, feed_forward=feed_forward)
            )
        else:
            parts.append(Part(layers=(index,), attention=attention, feed_forward=feed_forward))
    return parts


def _is_half(part: Part) -> bool:
    return part.attention is not None and part.feed_forward is None


def _kept(sizes: Sizes) -> set[str]:
    return {name for name, size in sizes.items() if size}


def describe_experts(dense: Iterable[Sizes], kept: Iterable[Sizes]) -> str:
    """Describe in a sentence what is kept of a model's experts; empty if it has none.

    Args:
        dense: What each layer of the model has.
        kept: What each layer keeps.
    """
    before, after = (
        [sizes for sizes in of_layers if "experts" in sizes] for of_layers in (dense, kept)
    )
    if not before:
        return ""
    left = [sizes for sizes in after if sizes["experts"]]
    if not left:
        return "All experts are pruned."

    def kept_of(name: str) -> str:
        return f"{_range(name, left)} of {_range(name, before)}"

    drop_count = len(after) - len(left)
    dropped = (
        f"; {drop_count} of {len(after)} layers with experts have none left" if drop_count else ""
    )
    return (
        f"Of each layer's experts {kept_of('experts')} are kept, with {kept_of('channels')} "
        f"channels; {kept_of('top_k')} run for a token{dropped}."
    )


def _range(name: str, sizes: Iterable[Sizes]) -> str:
    values = sorted({of_layer[name] for of_layer in sizes if of_layer.get("experts")})
    return "–".join(map(str, dict.fromkeys((values[0], values[-1]))))
