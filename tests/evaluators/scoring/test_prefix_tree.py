from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluators.scoring.prefix_tree import Branch, PrefixTree
from search_spaces.structure.backbone import LayerInputs
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import narrowed
from search_spaces.surgery.sort import sorted_as_is
from tests.models import tiny

Make = Callable[[], ModelStructure]
FAMILIES: list[Make] = [cache(tiny.llama), cache(tiny.opt), cache(tiny.phi)]
families = pytest.mark.parametrize("family", FAMILIES, ids=["llama", "opt", "phi"])


@torch.inference_mode()
def walked(structure: ModelStructure, counts: NDArray[np.int_]) -> tuple[list[Tensor], int]:
    """Hidden states of each candidate in the order of ``counts``, and the components run."""
    tree = PrefixTree(sorted_as_is(structure))
    found = dict(tree.walk(counts, structure.backbone.enter(tiny.windows())))
    assert sorted(found) == list(range(len(counts)))
    return [found[member] for member in range(len(counts))], tree.component_runs


@torch.inference_mode()
def swept(
    structure: ModelStructure, counts: NDArray[np.int_], batches: list[Tensor]
) -> dict[tuple[int, int], Tensor]:
    """Hidden states by batch and candidate, layer by layer."""
    tree = PrefixTree(sorted_as_is(structure))
    inputs = [structure.backbone.enter(tokens) for tokens in batches]
    return {(batch, member): final for batch, member, final in tree.walk_by_layer(counts, inputs)}


@torch.inference_mode()
def alone(structure: ModelStructure, kept: NDArray[np.int_], inputs: LayerInputs) -> Tensor:
    """One candidate, one layer after another, every layer run."""
    backbone = structure.backbone
    hidden = inputs.hidden
    for index, layer in enumerate(structure.layers):
        choices = zip(layer.components, kept[2 * index :].tolist(), strict=False)
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
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_layer_by_layer_gives_what_depth_first_gives_bit_for_bit(family: Make, seed: int) -> None:
    structure = family()
    counts = mixed(structure, np.random.default_rng(seed))
    batches = [tiny.windows(), tiny.windows(count=2, seed=1)]
    found = swept(structure, counts, batches)
    assert len(found) == len(batches) * len(counts)
    for batch, tokens in enumerate(batches):
        with torch.inference_mode():
            inputs = structure.backbone.enter(tokens)
            for member, final in PrefixTree(sorted_as_is(structure)).walk(counts, inputs):
                assert torch.equal(found[batch, member], final)


def test_layer_by_layer_needs_each_layer_once(monkeypatch: pytest.MonkeyPatch) -> None:
    structure = tiny.llama(layers=4)
    asked: list[int] = []
    resident = structure.backbone.resident

    def noted(index: int) -> AbstractContextManager[nn.Module]:
        asked.append(index)
        return resident(index)

    monkeypatch.setattr(structure.backbone, "resident", noted)
    counts = mixed(structure, np.random.default_rng(0))
    swept(structure, counts, [tiny.windows(), tiny.windows(seed=1)])
    assert asked == [0, 1, 2, 3]


@families
def test_known_states_are_where_a_walk_may_start(family: Make) -> None:
    structure = family()
    counts = mixed(structure, np.random.default_rng(3))
    tree = PrefixTree(sorted_as_is(structure))
    states: dict[bytes, Tensor] = {}

    def keep(kept: NDArray[np.int_], hidden: Tensor) -> None:
        states[kept.tobytes()] = hidden

    with torch.inference_mode():
        inputs = structure.backbone.enter(tiny.windows())
        expected = dict(tree.walk(counts, inputs, on_state=keep))
        stop = tree.steps[1].stop
        starts = [
            Branch(np.array([member]), 2, states[kept[:stop].tobytes()])
            for member, kept in enumerate(counts)
            if member % 2
        ]
        starts.append(Branch(np.arange(0, len(counts), 2), 0, inputs.hidden))
        for walked_from_there in (
            tree.walk(counts, inputs, starts),
            ((m, f) for _, m, f in tree.walk_by_layer(counts, [inputs], [starts])),
        ):
            found = dict(walked_from_there)
            assert all(torch.equal(found[member], final) for member, final in expected.items())
        before = tree.component_runs
        list(tree.walk(counts[1:2], inputs, [replace(starts[0], members=np.array([0]))]))
    assert tree.component_runs - before == int((counts[1, stop:] > 0).sum())


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
    # attention and MLP are two steps where one comes after the other, else one
    width = 1 if structure.layers[0].splits else 2
    prefixes = {
        tuple(kept[:stop])
        for kept in counts.tolist()
        for stop in range(width, counts.shape[1] + 1, width)
    }
    by_hand = sum(kept > 0 for prefix in prefixes for kept in prefix[-width:])
    assert walked(structure, counts)[1] == by_hand


def single_drops(structure: ModelStructure) -> NDArray[np.int_]:
    """Each component dropped by itself."""
    dense = tiny.dense_counts(structure)
    return dense * (1 - np.eye(len(dense), dtype=np.int_))


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_a_single_site_pass_costs_about_half_of_separate_ones(layers: int) -> None:
    structure = tiny.llama(layers=layers)
    counts = single_drops(structure)
    _, shared = walked(structure, counts)
    # the one that drops a component runs all later ones by itself, the others that one together
    components = 2 * layers
    assert shared == components * (components - 1) // 2 + components - 1
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
