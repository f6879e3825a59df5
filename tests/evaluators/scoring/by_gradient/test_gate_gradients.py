from collections.abc import Callable
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
from search_spaces.structure.linear import bias, matrix
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.sort import sorted_as_is
from tests.models import tiny
from tests.models.changed_copies import kl_of_change

llama, opt, phi = cache(tiny.llama), cache(tiny.opt), cache(tiny.phi)
STEP = 1e-2  # wide, for attention inside transformers rounds to single precision


def kl(structure: ModelStructure, gates: list[NDArray[np.float64]]) -> float:
    """KL of a float64 copy whose last projections' columns are multiplied by gates."""

    def multiply(layers: nn.Module) -> None:
        for component, gate in zip(structure.components, gates, strict=True):
            output = component.projections[-1]
            linear = layers.get_submodule(f"{component.layer}.{output.path}")
            matrix(linear).mul_(torch.from_numpy(gate[output.units]))
            offset = bias(linear)
            if not gate.round().any() and offset is not None:
                offset.zero_()

    return kl_of_change(structure, tiny.windows(), multiply)


def by_difference(
    structure: ModelStructure, kept: NDArray[np.int_], component: int, unit: int
) -> float:
    """The slope of one gate by central differences."""
    found = []
    for step in (STEP, -STEP):
        gates = [
            (np.arange(b.unit_count) < count).astype(np.float64)
            for b, count in zip(structure.components, kept, strict=True)
        ]
        gates[component][unit] += step
        found.append(kl(structure, gates))
    return (found[0] - found[1]) / (2 * STEP)


@torch.no_grad()
def texts(structure: ModelStructure, tokens: Tensor, at_once: int) -> list[GradientText]:
    """So many windows at once."""
    backbone = structure.backbone
    return [
        GradientText(backbone, ids, backbone.enter(ids).final)
        for ids in torch.split(tokens, at_once)
    ]


@pytest.mark.parametrize("family", [llama, opt, phi], ids=["llama", "opt", "phi"])
def test_slopes_are_derivatives_for_kept_and_dropped_units(
    family: Callable[[], ModelStructure],
) -> None:
    structure = family()
    kept = tiny.dense_counts(structure)
    kept[0], kept[1], kept[3] = 1, 20, 0
    slopes = gate_gradients(sorted_as_is(structure), texts(structure, tiny.windows(), 3), kept)
    assert [len(slope) for slope in slopes] == [b.unit_count for b in structure.components]
    for component, unit in ((0, 0), (0, 1), (1, 3), (1, 40), (2, 1), (3, 7)):
        expected = by_difference(structure, kept, component, unit)
        assert slopes[component][unit] == pytest.approx(expected, rel=2e-3, abs=2e-6)


def test_the_dense_model_is_at_the_bottom_and_its_weights_stay_as_they_were() -> None:
    structure = llama()
    parameters = list(structure.backbone.model.parameters())
    wanted = [parameter.requires_grad for parameter in parameters]
    evaluator = Evaluator(sorted_as_is(structure), tiny.windows(), Fidelity(rungs=(2, 4)))
    ((member, slopes),) = evaluator.gate_gradients(tiny.dense_counts(structure)[None])
    assert member == 0
    assert max(np.abs(slope).max() for slope in slopes) < 1e-6
    assert [parameter.requires_grad for parameter in parameters] == wanted


def test_slopes_see_the_first_rung_only() -> None:
    structure = llama()
    kept = tiny.dense_counts(structure)
    kept[2] = 0
    evaluator = Evaluator(sorted_as_is(structure), tiny.windows(), Fidelity(rungs=(2, 4)))
    ((_, slopes),) = evaluator.gate_gradients(kept[None])
    alone = gate_gradients(sorted_as_is(structure), texts(structure, tiny.windows()[:2], 1), kept)
    for got, expected in zip(slopes, alone, strict=True):
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-8)  # batched otherwise


def test_a_sample_is_the_score_on_its_windows_in_its_order() -> None:
    structure = llama()
    counts = tiny.random_counts(structure, 5, np.random.default_rng(3))
    evaluator = Evaluator(sorted_as_is(structure), tiny.windows(), Fidelity(rungs=(2, 4)))
    whole = dict(evaluator.score(counts))
    for batch_tokens in (12, 4096):
        again = Evaluator(
            sorted_as_is(structure), tiny.windows(), Fidelity(batch_tokens=batch_tokens)
        )
        picked = dict(again.sample(counts, (3, 0, 2)))
        assert sorted(picked) == list(range(5))
        for member, score in picked.items():
            expected = whole[member].by_window["kl"][[3, 0, 2]]
            assert score.by_window["kl"] == pytest.approx(expected, rel=1e-4)
            assert score.tokens == 36
