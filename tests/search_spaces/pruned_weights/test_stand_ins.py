"""Stand-ins: the map of a formula, folded into weights so that no shape changes."""

import pytest
import torch
from torch import Tensor

from search_spaces.linalg import DAMPING
from search_spaces.pruned_weights.stand_ins import StandIns
from search_spaces.pruned_weights.types import LinearWeights
from search_spaces.statistics import LayerStatistics, Statistics
from tests.models.families import dense

COMPONENTS = dense("llama").components[:4]
TOKENS, HIDDEN = 400, 6


def drawn(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(TOKENS, HIDDEN, generator=generator)


def stand_ins(*outputs: Tensor) -> StandIns:
    """Return those of two layers whose components add these in turn."""
    by_layer: list[Statistics] = [
        {("component_output", "attention"): outputs[0], ("component_output", "mlp"): outputs[1]},
        {("component_output", "attention"): outputs[2], ("component_output", "mlp"): outputs[3]},
    ]
    return StandIns(COMPONENTS, LayerStatistics.measured(by_layer))


@pytest.mark.parametrize("count", [1, 2])
def test_the_folded_weights_are_those_of_the_damped_least_squares(count: int) -> None:
    outputs = [drawn(seed) @ drawn(9)[:HIDDEN] for seed in range(4)]
    weight, bias = drawn(5)[:HIDDEN, :5], drawn(6)[0]
    found = stand_ins(*outputs).folded(1, count, LinearWeights(weight, bias))
    source, aim = outputs[1].double(), sum(outputs[1 : 2 + count]).double()  # type: ignore[union-attr]
    damping = DAMPING * float(source.square().sum()) / HIDDEN
    eye = torch.eye(HIDDEN, dtype=torch.float64)
    rows = torch.cat([source, damping**0.5 * eye])
    # outputs are multiplied in float32, whose rounding the normal equations' condition enlarges
    bound = float(torch.linalg.cond(rows) ** 2) * torch.finfo(torch.float32).eps
    mapped = torch.linalg.lstsq(rows, torch.cat([aim, damping**0.5 * eye])).solution
    assert torch.allclose(found.weight.double(), mapped.T @ weight.double(), atol=bound)
    assert found.bias is not None
    assert torch.allclose(found.bias.double(), mapped.T @ bias.double(), atol=bound)


def test_what_follows_from_the_component_before_is_not_missed_and_what_does_not_is() -> None:
    first = drawn(0)
    linear = first @ drawn(9)[:HIDDEN]
    made = stand_ins(first, linear, drawn(2), 0.5 * drawn(2))
    assert made.missed(1) == pytest.approx(0.0, abs=1e-3)
    assert made.missed(2) == pytest.approx(1.0, abs=0.05)
    assert made.missed(3) == pytest.approx(0.0, abs=1e-3)


def test_what_adds_nothing_is_stood_in_for_by_changing_nothing() -> None:
    made = stand_ins(drawn(0), torch.zeros(TOKENS, HIDDEN), drawn(1), torch.zeros(TOKENS, HIDDEN))
    weight = drawn(5)[:HIDDEN]
    assert torch.equal(made.folded(0, 1, LinearWeights(weight)).weight, weight)
    assert torch.equal(made.folded(1, 2, LinearWeights(weight)).weight, weight)
    assert (made.missed(1), made.missed(2)) == (0.0, 1.0)
