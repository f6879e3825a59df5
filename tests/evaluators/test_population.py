from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from evaluators.population import PrefixTree
from search_spaces.structure.backbone import LayerInputs
from search_spaces.structure.read import ModelStructure
from search_spaces.surgery import narrowed
from tests.evaluators import tiny

Make = Callable[[], ModelStructure]
FAMILIES: list[Make] = [cache(tiny.llama), cache(tiny.opt), cache(tiny.phi)]
families = pytest.mark.parametrize("family", FAMILIES, ids=["llama", "opt", "phi"])


@torch.inference_mode()
def walked(structure: ModelStructure, counts: NDArray[np.int_]) -> tuple[list[Tensor], int]:
    """Hidden states of each candidate in the order of ``counts``, and the sub-blocks run."""
    tree = PrefixTree(structure)
    found = dict(tree.walk(counts, structure.backbone.enter(tiny.windows())))
    assert sorted(found) == list(range(len(counts)))
    return [found[member] for member in range(len(counts))], tree.sub_block_runs


@torch.inference_mode()
def alone(structure: ModelStructure, kept: NDArray[np.int_], inputs: LayerInputs) -> Tensor:
    """One candidate, one layer after another, every layer run."""
    backbone = structure.backbone
    hidden = inputs.hidden
    for index, layer in enumerate(structure.layers):
        choices = zip((layer.attention, layer.mlp), kept[2 * index :].tolist(), strict=False)
        narrow = narrowed(backbone.layers[index], choices)
        hidden = backbone.run_layer(narrow, hidden, inputs.calls[index])
    return backbone.leave(hidden)


def mixed(structure: ModelStructure, rng: np.random.Generator) -> NDArray[np.int_]:
    """Candidates that share prefixes of every length: children, strangers and a duplicate."""
    parents = tiny.random_counts(structure, 3, rng)
    others = tiny.random_counts(structure, 6, rng)
    width = parents.shape[1]
    cuts = rng.integers(width + 1, size=6)
    children = np.where(np.arange(width) < cuts[:, None], parents[rng.integers(3, size=6)], others)
    every = np.concatenate([parents, children, parents[:1], tiny.dense_counts(structure)[None]])
    every[-2, 2:4] = 0  # a whole layer gone
    return rng.permutation(every)


@families
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_tree_gives_what_separate_walks_give_bit_for_bit(family: Make, seed: int) -> None:
    structure = family()
    counts = mixed(structure, np.random.default_rng(seed))
    with torch.inference_mode():
        inputs = structure.backbone.enter(tiny.windows())
    for kept, final in zip(counts, walked(structure, counts)[0], strict=True):
        assert torch.equal(final, alone(structure, kept, inputs))


@families
def test_the_dense_candidate_is_the_model_itself(family: Make) -> None:
    structure = family()
    (final,), _ = walked(structure, tiny.dense_counts(structure)[None])
    with torch.inference_mode():
        expected = structure.backbone.model(input_ids=tiny.windows()).logits
        assert torch.equal(structure.backbone.logits(final.flatten(0, 1)), expected.flatten(0, 1))


@families
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_shared_prefix_is_run_once(family: Make, seed: int) -> None:
    structure = family()
    counts = mixed(structure, np.random.default_rng(seed))
    prefixes = {
        tuple(kept[: 2 * depth])
        for kept in counts.tolist()
        for depth in range(1, len(structure.layers) + 1)
    }
    by_hand = sum((prefix[-2] > 0) + (prefix[-1] > 0) for prefix in prefixes)
    assert walked(structure, counts)[1] == by_hand


def single_drops(structure: ModelStructure) -> NDArray[np.int_]:
    """Each sub-block dropped by itself."""
    dense = tiny.dense_counts(structure)
    return dense * (1 - np.eye(len(dense), dtype=np.int_))


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_a_single_site_pass_costs_about_half_of_separate_ones(layers: int) -> None:
    structure = tiny.llama(layers=layers)
    counts = single_drops(structure)
    _, shared = walked(structure, counts)
    # the two that drop something at a depth run 1 sub-block there and 2 in every later layer, by
    # themselves: 2 layers² in all; the others run a layer whole together, all but the last layer
    assert shared == 2 * layers**2 + 2 * (layers - 1)
    separate = sum(walked(structure, kept[None])[1] for kept in counts)
    assert separate == 2 * layers * (2 * layers - 1)


def test_a_dropped_layer_runs_nothing() -> None:
    structure = FAMILIES[0]()
    counts = np.zeros((1, 6), dtype=np.int_)
    (final,), runs = walked(structure, counts)
    assert runs == 0
    with torch.inference_mode():
        hidden = structure.backbone.enter(tiny.windows()).hidden
        assert torch.equal(final, structure.backbone.leave(hidden))


def test_no_candidates_give_nothing() -> None:
    assert walked(FAMILIES[0](), np.zeros((0, 6), dtype=np.int_)) == ([], 0)
