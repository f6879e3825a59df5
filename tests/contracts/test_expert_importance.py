"""What every importance of experts must keep to; a new one adds its name and is held."""

import dataclasses
from typing import get_args

import pytest
import torch
from torch import Tensor

from search_spaces.errors import ModelError, SettingsError
from search_spaces.importance import ExpertImportanceName, make_expert_importance
from search_spaces.importance.protocol import ExpertImportance
from search_spaces.statistics import StatisticName, Statistics
from tests.models.experts_by_hand import EXPERTS, HIDDEN, HOLDER, mixture, random_stacks

NAMES: tuple[ExpertImportanceName, ...] = get_args(ExpertImportanceName)
MEASURED: dict[ExpertImportanceName, StatisticName] = {
    "frequency": "expert_frequency",
    "router_weight": "expert_weight",
    "reap": "expert_output",
    "reconstruction": "expert_reconstruction",
    "tcess": "expert_selection",
    "acceptance": "expert_acceptance",
}
"""Those whose importance is one statistic."""
OF_EXPERTS: tuple[StatisticName, ...] = (
    *MEASURED.values(),
    "expert_first",
    "expert_confidence",
)


def criterion(name: ExpertImportanceName) -> ExpertImportance:
    return make_expert_importance(name, pretrained={0: torch.zeros(EXPERTS, HIDDEN)})


def statistics(unused: tuple[int, ...] = ()) -> dict[tuple[StatisticName, str], Tensor]:
    """Return random statistics; of experts that are not used, what a pass would leave."""
    rng = torch.Generator().manual_seed(1)
    found: dict[tuple[StatisticName, str], Tensor] = {}
    for name in OF_EXPERTS:
        values = torch.rand(EXPERTS, generator=rng) + 0.1
        values[list(unused)] = 0.0
        found[name, HOLDER] = values
    return found


def importance(name: ExpertImportanceName, found: Statistics) -> Tensor:
    component = mixture()
    return criterion(name).importance(component, random_stacks(component), found)


@pytest.mark.parametrize("name", NAMES)
def test_an_importance_scores_every_expert_from_what_it_declares(
    name: ExpertImportanceName,
) -> None:
    full = statistics()
    declared = {key: value for key, value in full.items() if key[0] in criterion(name).statistics}
    found = importance(name, declared)
    assert found.shape == (EXPERTS,)
    assert found.isfinite().all()
    assert len(set(found.tolist())) == EXPERTS
    torch.testing.assert_close(importance(name, full), found, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unused", [(2,), (0, 5), (0, 1, 2, 3, 4)])
def test_experts_to_which_nothing_was_sent_are_pruned_first(
    name: ExpertImportanceName, unused: tuple[int, ...]
) -> None:
    found = importance(name, statistics(unused))
    used = [expert for expert in range(EXPERTS) if expert not in unused]
    assert found.isfinite().all()
    assert found[list(unused)].max() < found[used].min()


@pytest.mark.parametrize("name", NAMES)
def test_unused_experts_are_below_used_ones_that_do_nothing(name: ExpertImportanceName) -> None:
    found = {key: torch.zeros(EXPERTS) for key in statistics()}
    found["expert_frequency", HOLDER] = torch.tensor([0.5, 0.5, 0.0, 0.5, 0.5, 0.5])
    component = mixture()
    silent = {path: torch.zeros_like(value) for path, value in random_stacks(component).items()}
    scores = criterion(name).importance(component, silent, found)
    assert int(scores.argmin()) == 2
    assert int((scores == scores.min()).sum()) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_text_without_tokens_ranks_no_experts(name: ExpertImportanceName) -> None:
    found = importance(name, {key: torch.zeros(EXPERTS) for key in statistics()})
    assert found.tolist() == [0.0] * EXPERTS


@pytest.mark.parametrize("name", MEASURED)
def test_an_expert_counts_by_what_was_measured(name: ExpertImportanceName) -> None:
    found = statistics()
    assert importance(name, found).tolist() == found[MEASURED[name], HOLDER].tolist()


def test_nllb_weighs_activity_by_the_exponent_of_confidence() -> None:
    found = statistics()
    found["expert_first", HOLDER] = torch.tensor([0.5, 0.25, 0.25, 0.0, 0.0, 0.0])
    found["expert_confidence", HOLDER] = torch.tensor([0.5, 1.0, 0.25, 0.0, 0.0, 0.0])
    expected = [0.5 * 1.6487213, 0.25 * 2.7182818, 0.25 * 1.2840254, 0.0, 0.0, 0.0]
    assert importance("language", found).tolist() == pytest.approx(expected)


def test_magnitude_sums_the_squares_of_all_the_stacks_of_an_expert() -> None:
    component = mixture(biased=True)
    weights = random_stacks(component)
    found = criterion("magnitude").importance(component, weights, statistics())
    expected = [
        sum(float(weights[path][expert].square().sum()) for path in weights if "gate" not in path)
        for expert in range(EXPERTS)
    ]
    assert found.tolist() == pytest.approx(expected)


def test_the_experts_whose_router_rows_grew_least_are_pruned_first() -> None:
    component = mixture()
    weights = random_stacks(component)
    growth = torch.tensor([0.5, 2.0, 1.0, 1.5, 3.0, 0.9])
    before = {0: weights["mlp.gate.weight"] / growth[:, None]}
    made = make_expert_importance("router_change", pretrained=before)
    norms = weights["mlp.gate.weight"].norm(dim=1)
    expected = (norms - norms / growth).tolist()
    found = made.importance(component, weights, statistics())
    assert found.tolist() == pytest.approx(expected)
    assert int(found.argmin()) == 0, "its row shrank"


@pytest.mark.parametrize("rows", [EXPERTS - 1, EXPERTS + 1])
def test_a_router_of_another_shape_is_refused(rows: int) -> None:
    component = mixture()
    made = make_expert_importance("router_change", pretrained={0: torch.zeros(rows, HIDDEN)})
    with pytest.raises(
        ModelError, match=rf"shape \(6, 4\) in `layers.0.experts`, got \({rows}, 4"
    ):
        made.importance(component, random_stacks(component), statistics())


def test_a_layer_without_a_router_before_fine_tuning_is_refused() -> None:
    component = mixture()
    made = make_expert_importance("router_change", pretrained={3: torch.zeros(EXPERTS, HIDDEN)})
    with pytest.raises(ModelError, match=r"got none.*--pretrained_router"):
        made.importance(component, random_stacks(component), statistics())


def test_router_change_needs_the_router_before_fine_tuning() -> None:
    with pytest.raises(SettingsError, match="--pretrained_router"):
        make_expert_importance("router_change")


def test_the_random_order_differs_from_layer_to_layer_only() -> None:
    component = mixture()
    weights = random_stacks(component)
    first = criterion("random").importance(component, weights, statistics())
    again = criterion("random").importance(mixture(), weights, statistics((1,)))
    assert torch.equal(first[[0, 2, 3, 4, 5]], again[[0, 2, 3, 4, 5]])
    other = criterion("random").importance(
        dataclasses.replace(component, layer=1), weights, statistics()
    )
    assert not torch.equal(first, other)
