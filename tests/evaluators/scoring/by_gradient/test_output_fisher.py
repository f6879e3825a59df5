"""What options do, from one backward pass, against what they do when they are scored."""

from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluators.scoring.by_gradient.gradient_text import GradientText
from evaluators.scoring.by_gradient.output_fisher import output_fisher
from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.prefix_tree import PrefixTree
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.layer_builder import LayerBuilder
from search_spaces.surgery.sort import sorted_as_is
from tests.models import tiny
from tests.models.noisy_formats import noisy_builder

NOISE = {"Q8_0": 0.01, "Q4_0": 0.02}
"""So little that KL is its second order."""
WINDOWS = tiny.windows(3000, 2)
"""Of two tokens, so that the first predicts alone, and nothing is lost by adding tokens up."""
DRAWN = 0.15
"""Relative error of the mean over so many draws, of which each is about a squared normal: five
times √(2 / 3000) for the draws' sake, and a little for what is beyond second order."""


@cache
def model(*, tied: bool) -> ModelStructure:
    return tiny.llama(tied=tied).with_ends()


def builder(structure: ModelStructure) -> LayerBuilder:
    return noisy_builder(structure, NOISE)


@torch.no_grad()
def logits(structure: ModelStructure, candidate: NDArray[np.int_]) -> Tensor:
    tree = PrefixTree(sorted_as_is(structure), builder(structure))
    ((_, final),) = tree.walk(candidate[None], structure.backbone.enter(WINDOWS))
    return tree.ends.head_of(candidate)(final)[:, :-1].double()


def divergence(structure: ModelStructure, one: NDArray[np.int_], other: NDArray[np.int_]) -> float:
    """KL from one candidate's predictions to another's, in nats a token."""
    log_p, log_q = (logits(structure, c).log_softmax(dim=-1) for c in (one, other))
    return float((log_p.exp() * (log_p - log_q)).sum(dim=-1).mean())


def formatted(structure: ModelStructure, position: int) -> tuple[int, int]:
    """The configurations of a whole component in both formats."""
    units = structure.components[position].unit_count
    return 2 * units + 1, 3 * units + 2


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_it_is_the_kl_of_each_format_alone(*, tied: bool) -> None:
    structure = model(tied=tied)
    positions = [0, 1, 4, *range(len(structure.components) - len(structure.ends), 8 - tied)]
    asked = {position: formatted(structure, position) for position in positions}
    evaluator = Evaluator(sorted_as_is(structure), WINDOWS, layer_builder=builder(structure))
    dense = tiny.dense_counts(structure)
    found = evaluator.option_sensitivities(dense, asked)
    assert set(found) == {(p, each) for p, both in asked.items() for each in both}
    for (position, choice), estimate in found.items():
        candidate = dense.copy()
        candidate[position] = choice
        # a tied embedding works at both ends, whose parts are added as if they were apart
        allowed = 0.3 if tied and position == 6 else DRAWN
        expected = divergence(structure, dense, candidate)
        assert estimate == pytest.approx(expected, rel=allowed)


def test_it_is_taken_inside_a_candidate() -> None:
    structure = model(tied=False)
    pruned = tiny.dense_counts(structure)
    pruned[0], pruned[3] = 1, 20
    pruned[4] = formatted(structure, 4)[1]
    tree = PrefixTree(sorted_as_is(structure), builder(structure))
    with torch.no_grad():
        final = structure.backbone.enter(WINDOWS).final
        text = GradientText(structure.backbone, WINDOWS, final)
    choices = formatted(structure, 1)
    found = output_fisher(tree, [text], pruned, {1: choices})
    for choice in choices:
        candidate = pruned.copy()
        candidate[1] = choice
        expected = divergence(structure, pruned, candidate)
        assert found[1, choice] == pytest.approx(expected, rel=DRAWN)


def test_more_noise_matters_more_by_its_square() -> None:
    structure = model(tied=True)
    asked = {1: formatted(structure, 1)}
    evaluator = Evaluator(
        sorted_as_is(structure), tiny.windows(), layer_builder=builder(structure)
    )
    once = evaluator.option_sensitivities(tiny.dense_counts(structure), asked)
    little, much = (once[1, choice] for choice in asked[1])
    ratio = (NOISE["Q4_0"] / NOISE["Q8_0"]) ** 2
    assert much / little == pytest.approx(ratio, rel=0.05)  # the MLP is not quite linear
    assert evaluator.option_sensitivities(tiny.dense_counts(structure), asked) == once


def test_what_was_scored_before_may_be_differentiated() -> None:
    structure = model(tied=True)
    evaluator = Evaluator(
        sorted_as_is(structure), tiny.windows(), layer_builder=builder(structure)
    )
    candidate = tiny.dense_counts(structure)
    candidate[0], candidate[-1] = formatted(structure, 0)[1], 5
    list(evaluator.score(candidate[None]))
    found = evaluator.option_sensitivities(candidate, {1: formatted(structure, 1)})
    assert all(value > 0 for value in found.values())
