"""Candidates with an embedding and a head of their own."""

import copy
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluators.scoring.batches import Fidelity
from evaluators.scoring.by_gradient.gate_gradients import gate_gradients
from evaluators.scoring.by_gradient.gradient_text import GradientText
from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.prefix_tree import PrefixTree
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.layer_builder import LayerBuilder
from search_spaces.surgery.sort import sorted_as_is
from tests.models import tiny
from tests.models.noisy_formats import NoisyFormats, noisy_builder

NOISE = {"Q8_0": 0.1, "Q4_0": 0.4}
OF_Q8, OF_Q4 = 3, 5
"""The whole end in each format: a table counts 0 and 1 unit of each of three options."""


@cache
def model(*, tied: bool) -> ModelStructure:
    return tiny.llama(tied=tied).with_ends()


def builder(structure: ModelStructure) -> LayerBuilder:
    return noisy_builder(structure, NOISE)


def candidates(structure: ModelStructure) -> NDArray[np.int_]:
    """Widths that some share, with ends of every format in no order."""
    rng = np.random.default_rng(0)
    widths = tiny.random_counts(structure, 3, rng)[[0, 1, 0, 2, 0, 1]]
    first = len(structure.components) - len(structure.ends)
    for position in range(first, len(structure.components)):
        widths[:, position] = rng.permutation([1, OF_Q8, OF_Q4, 1, OF_Q8, OF_Q4])
    widths[0, first:], widths[1, first:] = 1, OF_Q4
    return widths


@torch.inference_mode()
def alone(structure: ModelStructure, candidate: NDArray[np.int_], tokens: Tensor) -> Tensor:
    """The logits of a candidate whose ends are written into a copy of the model."""
    source, made = NoisyFormats(structure, NOISE), copy.deepcopy(structure.backbone.model)
    first = len(structure.components) - len(structure.ends)
    for position, end in enumerate(structure.ends, first):
        name = {1: None, OF_Q8: "Q8_0", OF_Q4: "Q4_0"}[int(candidate[position])]
        dense = structure.backbone.model.get_parameter(f"{end.module}.weight")
        if name is not None:
            noisy = nn.Parameter(source.noisy(dense, position, 0, name))
            made.get_submodule(end.module).weight = noisy
            if end.kind == "embedding" and end.reads_out:
                head = made.get_output_embeddings()  # type: ignore[no-untyped-call]
                head.weight = noisy
    layers = [builder(structure).layer(i, candidate[s]) for i, s in enumerate(structure.spans)]
    for path, layer in zip(structure.backbone.layer_paths, layers, strict=True):
        made.set_submodule(path, layer)
    logits: Tensor = made(input_ids=tokens, use_cache=False).logits
    return logits


ties = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])


@ties
def test_a_candidate_scores_as_a_model_of_its_own_in_any_company(*, tied: bool) -> None:
    structure, tokens = model(tied=tied), tiny.windows()
    chosen = candidates(structure)
    dense = structure.backbone.model(input_ids=tokens, use_cache=False).logits
    evaluator = Evaluator(
        sorted_as_is(structure), tokens, Fidelity(rungs=(2, 4)), layer_builder=builder(structure)
    )
    first = dict(evaluator.score(chosen))
    evaluator.expect(chosen[:2])
    dict(evaluator.score(chosen))  # keeps states, from which the next ones start
    again = dict(evaluator.score(chosen[::-1].copy()))
    for member, candidate in enumerate(chosen):
        log_q, log_p = (
            logits[:, :-1].double().log_softmax(dim=-1)
            for logits in (alone(structure, candidate, tokens), dense)
        )
        expected = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean(dim=1).numpy()
        got = first[member].by_window["kl"]
        assert got == pytest.approx(expected, rel=1e-3, abs=1e-6)
        assert (got == again[len(chosen) - 1 - member].by_window["kl"]).all()
    assert evaluator.states.bytes_held > 0


@ties
def test_layer_by_layer_gives_the_same(*, tied: bool) -> None:
    structure, tokens = model(tied=tied), tiny.windows()
    chosen, tree = candidates(structure), PrefixTree(sorted_as_is(structure), builder(structure))
    with torch.inference_mode():
        inputs = structure.backbone.enter(tokens)
        walked = dict(tree.walk(chosen, inputs))
        swept = {m: final for _, m, final in tree.walk_by_layer(chosen, [inputs])}
    assert sorted(walked) == sorted(swept) == list(range(len(chosen)))
    assert all(bool((walked[member] == swept[member]).all()) for member in walked)


@ties
def test_the_model_is_as_it_was_afterwards(*, tied: bool) -> None:
    structure = model(tied=tied)
    before = dict(structure.backbone.model.named_parameters(remove_duplicate=False))
    evaluator = Evaluator(
        sorted_as_is(structure), tiny.windows(), layer_builder=builder(structure)
    )
    list(evaluator.score(candidates(structure)))
    after = dict(structure.backbone.model.named_parameters(remove_duplicate=False))
    assert list(before) == list(after)
    assert all(before[name] is after[name] for name in before)


@ties
def test_two_evaluators_of_one_model_do_not_disturb_each_other(*, tied: bool) -> None:
    structure, tokens = model(tied=tied), tiny.windows()
    chosen, sorted_model = candidates(structure), sorted_as_is(structure)
    orders = [np.arange(len(chosen)), np.arange(len(chosen))[::-1]]

    def measured(order: NDArray[np.int_]) -> list[list[bytes]]:
        """All that is measured of candidates in an order, by an evaluator of their own."""
        evaluator = Evaluator(sorted_model, tokens, layer_builder=builder(structure))
        own = np.ascontiguousarray(chosen[order])
        scores, slopes = dict(evaluator.score(own)), dict(evaluator.gate_gradients(own))
        return [
            [scores[m].by_window["kl"].tobytes(), *(slope.tobytes() for slope in slopes[m])]
            for m in np.argsort(order)
        ]

    alone = measured(orders[0])
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that each is met in the middle of the other's work
    try:
        with ThreadPoolExecutor(2) as threads:
            together = list(threads.map(measured, orders * 3))
    finally:
        sys.setswitchinterval(interval)
    assert together == [alone] * 6


def test_gates_of_units_see_the_ends() -> None:
    structure, tokens = model(tied=True), tiny.windows()
    candidate = tiny.dense_counts(structure)
    text = GradientText(structure.backbone, tokens, structure.backbone.enter(tokens).final)
    plain = gate_gradients(sorted_as_is(structure), [text], candidate, builder(structure))
    candidate[-1] = OF_Q4
    noisy = gate_gradients(sorted_as_is(structure), [text], candidate, builder(structure))
    assert len(noisy) == len(structure.components)
    # the dense model is at the bottom, and away from it there are slopes
    assert max(np.abs(slope).max() for slope in plain) < 1e-5
    assert max(np.abs(slope).max() for slope in noisy) > 1e-3
