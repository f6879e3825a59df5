"""Blocks hold exactly one attention each, whatever was dropped."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from planner.targets.hf.layout import Part, SublayerEntry, arrange, describe_experts
from planner.targets.hf.wiring import Sizes, Wiring
from search_spaces.space.block_options import ExpertPruning
from search_spaces.structure.model import ModelStructure
from tests.models.families import dense
from tests.models.moe_families import mixture

KINDS = {"": (0, 0), "a": (2, 0), "m": (0, 48), "am": (2, 48)}
"""What a layer of a Llama keeps."""


def blocks_of(structure: ModelStructure, counts: Sequence[int]) -> list[list[Part]]:
    """Arrange what the first layers keep, by component."""
    wiring, sizes, layers = Wiring.of(structure), list[Sizes](), []
    left = list(counts)
    for index, layer in enumerate(structure.layers):
        if left:
            kept = [left.pop(0) for _ in layer.components]
            sizes.append(wiring.sizes(layer, index, kept))
            layers.append(layer)
    return arrange(replace(structure, layers=tuple(layers)), wiring, sizes)


def arranged(structure: ModelStructure, kinds: Sequence[str]) -> list[list[str]]:
    """Return what each part of each block runs, as ``a0`` and ``m0`` for dense layer 0."""
    counts = [count for kind in kinds for count in KINDS[kind]]
    return [
        [
            ("" if part.attention is None else f"a{part.attention}")
            + ("" if part.feed_forward is None else f"m{part.feed_forward}")
            for part in block
        ]
        for block in blocks_of(structure, counts)
    ]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["am", "am"], [["a0m0"], ["a1m1"]]),
        (["am", "", "am"], [["a0m0"], ["a2m2"]]),
        (["m", "am"], [["m0", "a1m1"]]),
        (["m", "m", "a"], [["m0", "m1", "a2"]]),
        (["a", "m"], [["a0m1"]]),
        (["a", "", "m", "m"], [["a0m2", "m3"]]),
        (["a", "a", "m"], [["a0"], ["a1m2"]]),
        (["am", "m", "am"], [["a0m0", "m1"], ["a2m2"]]),
        (["", "am", ""], [["a1m1"]]),
    ],
)
def test_sequential_layers_are_strung_together(
    kinds: list[str], expected: list[list[str]], llama: ModelStructure
) -> None:
    assert arranged(llama, kinds) == expected


def test_side_by_side_layers_stay_whole() -> None:
    assert arranged(dense("phi"), ["a", "m", "am"]) == [["a0", "m1"], ["a2m2"]]


def test_a_layer_that_does_not_vanish_stays() -> None:
    assert blocks_of(dense("opt-post-norm"), [4, 48, 0, 0, 4, 48]) == [
        [Part(layers=(0,), attention=0, feed_forward=0), Part(layers=(1,))],
        [Part(layers=(2,), attention=2, feed_forward=2)],
    ]


def test_every_plan_has_one_attention_a_block(llama: ModelStructure) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        kinds = [list(KINDS)[index] for index in rng.integers(0, 4, size=6)]
        if not any("a" in kind for kind in kinds):
            continue
        blocks = arranged(llama, kinds)
        assert all(sum("a" in part for part in block) == 1 for block in blocks)
        flat = "".join(part for block in blocks for part in block)
        wanted = [f"{word}{i}" for i, kind in enumerate(kinds) for word in kind]
        assert flat == "".join(wanted)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama", True),
        ("gemma3", True),
        ("neox-sequential", True),
        ("neox", False),
        ("phi", False),
        ("opt-post-norm", False),
    ],
)
def test_layers_are_sequential_unless_they_share_or_run_side_by_side(
    name: str, expected: bool
) -> None:
    assert Wiring.of(dense(name)).sequential is expected


def entries_of(
    part: Part, sizes: Sequence[Sizes], *, sequential: bool
) -> list[tuple[SublayerEntry, int]]:
    sublayers = part.sublayers(sizes, sequential=sequential)
    return [(each.entry, each.layer) for each in sublayers]


def test_entries_of_a_part() -> None:
    widths: list[Sizes] = [{"attention": 2, "mlp": width} for width in (48, 16, 24)]
    both = Part(layers=(1,), attention=1, feed_forward=1)
    assert entries_of(both, widths, sequential=True) == [("attn", 1), (16, 1)]
    assert entries_of(both, widths, sequential=False) == [("attn+16", 1)]
    joined = Part(layers=(0, 2), attention=0, feed_forward=2)
    assert entries_of(joined, widths, sequential=True) == [("attn", 0), (24, 2)]
    alone = Part(layers=(2,), feed_forward=2)
    assert entries_of(alone, widths, sequential=True) == [(24, 2)]
    attention = Part(layers=(2,), attention=2)
    assert entries_of(attention, widths, sequential=False) == [("attn", 2)]
    assert entries_of(Part(layers=(2,)), widths, sequential=False) == [(0, 2)]


def test_each_component_stands_in_one_entry() -> None:
    sizes: list[Sizes] = [{"attention": 2, "mlp": 48}] * 2
    joined = Part(layers=(0, 1), attention=0, feed_forward=1)
    kinds = [each.kinds for each in joined.sublayers(sizes, sequential=True)]
    assert kinds == [{"attention"}, {"mlp"}]
    (whole,) = Part(layers=(0,), attention=0, feed_forward=0).sublayers(sizes, sequential=False)
    assert whole.kinds == {"attention", "mlp"}


def test_entries_of_experts() -> None:
    entry = {"experts": 6, "channels": 12, "top_k": 2}
    sizes: list[Sizes] = [{"attention": 2, **entry}]
    both = Part(layers=(0,), attention=0, feed_forward=0)
    assert entries_of(both, sizes, sequential=True) == [("attn", 0), (entry, 0)]
    assert entries_of(both, sizes, sequential=False) == [({"attn": True, **entry}, 0)]


def test_feed_forwards_of_a_mixture_beside_an_mlp() -> None:
    structure = mixture("deepseek-v3")
    wiring, layers = Wiring.of(structure), structure.layers
    assert wiring.sizes(layers[0], 0, [2, 24]) == {"attention": 2, "mlp": 24}
    whole = {"attention": 4, "experts": 16, "channels": 16, "top_k": 3, "shared": 32}
    assert wiring.dense_sizes(1) == wiring.sizes(layers[1], 1, [4, 16, 32]) == whole
    insides = [ExpertPruning(), ExpertPruning(top_k=2), ExpertPruning()]
    thinned = {"attention": 4, "experts": 8, "channels": 16, "top_k": 2, "shared": 0}
    assert wiring.sizes(layers[2], 2, [4, 8, 0], insides) == thinned


def test_a_sentence_describes_the_kept_experts() -> None:
    whole = [{"experts": 8, "channels": 16, "top_k": 2}] * 4
    few = {"experts": 2, "channels": 16, "top_k": 1}
    more = {"experts": 8, "channels": 4, "top_k": 2}
    assert describe_experts(whole, [few, more, more, {"experts": 0}]) == (
        "Of each layer's experts 2–8 of 8 are kept, with 4–16 of 16 channels; 1–2 of 2 run for a "
        "token; 1 of 4 layers with experts have none left."
    )
    assert describe_experts([few, *whole], [few] * 5) == (
        "Of each layer's experts 2 of 2–8 are kept, with 16 of 16 channels; 1 of 1–2 run for a "
        "token."
    )
    assert describe_experts(whole, [{"experts": 0}] * 4) == "All experts are pruned."
    assert not describe_experts([{"mlp": 48}] * 6, [{"mlp": 48}] * 6)


def test_an_attention_and_experts_are_no_one_layer_with_an_mlp() -> None:
    structure = mixture("qwen3-moe")  # layer 1 has an MLP
    assert blocks_of(structure, [2, 0, 0, 48, 0, 8])[0] == [
        Part(layers=(0,), attention=0),
        Part(layers=(1,), feed_forward=1),
        Part(layers=(2,), feed_forward=2),
    ]
    assert blocks_of(structure, [2, 0, 0, 0, 0, 8])[0] == [
        Part(layers=(0, 2), attention=0, feed_forward=2)
    ]
