"""Blocks hold exactly one attention each, whatever was dropped."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from planner.export.hf.layout import (
    Part,
    arrange,
    describe_experts,
    feed_forward_entries,
    is_sequential,
)
from search_spaces.space.block_options import DENSE_EXPERTS, ExpertPruning
from search_spaces.structure.model import ModelStructure
from tests.models.families import dense
from tests.models.moe_families import mixture

KINDS = {"": (0, 0), "a": (2, 0), "m": (0, 48), "am": (2, 48)}
"""What a layer of a Llama keeps."""


def layers_of(structure: ModelStructure, kinds: Sequence[str]) -> ModelStructure:
    return replace(structure, layers=structure.layers[: len(kinds)])


def arranged(structure: ModelStructure, kinds: Sequence[str]) -> list[list[str]]:
    """Return what each part of each block runs, as ``a0`` and ``m0`` for dense layer 0."""
    counts = np.array([KINDS[kind] for kind in kinds]).ravel()
    return [
        [
            ("" if part.attention is None else f"a{part.attention}")
            + ("" if part.feed_forward is None else f"m{part.feed_forward}")
            for part in block
        ]
        for block in arrange(layers_of(structure, kinds), counts)
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
    structure = dense("opt-post-norm")
    counts = np.array([4, 48, 0, 0, 4, 48])
    blocks = arrange(replace(structure, layers=structure.layers[:3]), counts)
    assert blocks == [
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
    assert is_sequential(dense(name)) is expected


def test_entries_of_a_part() -> None:
    widths = [48, 16, 24]
    both = Part(layers=(1,), attention=1, feed_forward=1)
    assert both.entries(widths, sequential=True) == [("attn", 1), (16, 1)]
    assert both.entries(widths, sequential=False) == [("attn+16", 1)]
    joined = Part(layers=(0, 2), attention=0, feed_forward=2)
    assert joined.entries(widths, sequential=True) == [("attn", 0), (24, 2)]
    assert Part(layers=(2,), feed_forward=2).entries(widths, sequential=True) == [(24, 2)]
    assert Part(layers=(2,), attention=2).entries(widths, sequential=False) == [("attn", 2)]
    assert Part(layers=(2,)).entries(widths, sequential=False) == [(0, 2)]


def test_entries_of_experts() -> None:
    entry = {"experts": 6, "channels": 12, "top_k": 2}
    both = Part(layers=(0,), attention=0, feed_forward=0)
    assert both.entries([entry], sequential=True) == [("attn", 0), (entry, 0)]
    assert both.entries([entry], sequential=False) == [({"attn": True, **entry}, 0)]


def test_feed_forwards_of_a_mixture_beside_an_mlp() -> None:
    structure = mixture("deepseek-v3")
    counts = np.array([block.member_count for block in structure.components])
    counts[structure.spans[2]][1:] = 8, 0
    thinned = [ExpertPruning(top_k=2) if index == 2 else DENSE_EXPERTS for index in range(4)]
    whole = {"experts": 16, "channels": 16, "top_k": 3, "shared": 32}
    assert feed_forward_entries(structure, counts, thinned) == [
        48,
        whole,
        {"experts": 8, "channels": 16, "top_k": 2, "shared": 0},
        whole,
    ]


def test_a_sentence_describes_the_kept_experts() -> None:
    structure = mixture("mixtral")
    few = {"experts": 2, "channels": 16, "top_k": 1}
    more = {"experts": 8, "channels": 4, "top_k": 2}
    assert describe_experts(structure, [few, more, more, {"experts": 0}]) == (
        "Of each layer's experts 2–8 of 8 are kept, with 4–16 of 16 channels; 1–2 of 2 run for a "
        "token; 1 of 4 layers with experts have none left."
    )
    assert describe_experts(structure, [few] * 4) == (
        "Of each layer's experts 2 of 8 are kept, with 16 of 16 channels; 1 of 2 run for a token."
    )
    assert describe_experts(structure, [{"experts": 0}] * 4) == "All experts are pruned."
    assert not describe_experts(dense("llama"), [48] * 6)


def test_an_attention_and_experts_are_no_one_layer_with_an_mlp() -> None:
    structure = mixture("qwen3-moe")  # layer 1 has an MLP
    assert is_sequential(structure)
    counts = np.array([block.member_count for block in structure.components])
    counts[structure.spans[0]] = 2, 0
    counts[structure.spans[1]] = 0, 48
    counts[structure.spans[2]] = 0, 8
    assert arrange(structure, counts)[0] == [
        Part(layers=(0,), attention=0),
        Part(layers=(1,), feed_forward=1),
        Part(layers=(2,), feed_forward=2),
    ]
    counts[structure.spans[1]] = 0, 0
    assert arrange(structure, counts)[0] == [Part(layers=(0, 2), attention=0, feed_forward=2)]
