"""Units are ordered by importance, ties by their own order."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import search_spaces
from evaluators.scoring.prefix_tree import PrefixTree
from search_spaces.importance.order import rank_units
from search_spaces.space.sorted_model import SortedModel
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure import Component
from search_spaces.structure.linear import matrix
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.layer_builder import LayerBuilder
from search_spaces.surgery.sort import sort_units_, sorted_as_is
from tests.models.factory import twin
from tests.models.families import dense
from tests.models.pruned_weights import random_orders


class Given:
    """Gives importances that were decided before, and keeps what it was handed."""

    statistics: frozenset[StatisticName] = frozenset()
    comparable = False

    def __init__(self, importances: Mapping[str, Tensor]) -> None:
        self._importances = importances
        self.handed: dict[str, tuple[Mapping[str, Tensor], Statistics]] = {}

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        self.handed[component.name] = (weights, statistics)
        return self._importances.get(component.name, torch.zeros(component.unit_count))


def statistics_of(layers: int) -> list[Statistics]:
    return [{("input_second_moment", "here"): torch.tensor(float(i))} for i in range(layers)]


@pytest.fixture
def gpt2() -> ModelStructure:
    return dense("gpt2")


def test_units_are_ordered_from_the_last_to_go(gpt2: ModelStructure) -> None:
    ranking = Given({"layers.1.attention": torch.tensor([0.5, 2.0, -1.0, 1.0])})
    orders = rank_units(gpt2, ranking, statistics_of(6))
    assert len(orders) == 12
    assert orders[2].tolist() == [1, 3, 0, 2]


def test_ties_keep_their_order(gpt2: ModelStructure) -> None:
    tied = torch.tensor([1.0, 2.0, 1.0, 2.0])
    orders = rank_units(gpt2, Given({"layers.0.attention": tied}), statistics_of(6))
    assert orders[0].tolist() == [1, 3, 0, 2]
    assert orders[1].tolist() == list(range(128))


def test_an_importance_gets_matrices_and_its_layers_statistics(gpt2: ModelStructure) -> None:
    ranking = Given({})
    rank_units(gpt2, ranking, statistics_of(6))
    weights, statistics = ranking.handed["layers.4.mlp"]
    assert {path: tuple(w.shape) for path, w in weights.items()} == {
        "mlp.c_fc": (128, 32),
        "mlp.c_proj": (32, 128),
    }
    assert statistics["input_second_moment", "here"] == 4.0


def test_importances_in_half_precision_are_ordered(gpt2: ModelStructure) -> None:
    half = torch.tensor([1.0, 3.0, 2.0, 0.0], dtype=torch.bfloat16)
    orders = rank_units(gpt2, Given({"layers.0.attention": half}), statistics_of(6))
    assert orders[0].tolist() == [1, 2, 0, 3]


def test_sorting_puts_the_best_units_first(gpt2: ModelStructure) -> None:
    changed = twin(gpt2)
    order = np.array([2, 0, 3, 1])
    orders = [order if b.kind == "attention" else np.arange(128) for b in changed.components]
    sort_units_(changed, orders)
    before, after = (
        matrix(s.backbone.layers[3].get_submodule("attn.c_attn")) for s in (gpt2, changed)
    )
    heads = before.reshape(3, 4, 8, 32)  # (query key value, head, feature, hidden)
    assert torch.equal(after.reshape(3, 4, 8, 32), heads[:, torch.from_numpy(order)])


def weights_of(structure: ModelStructure) -> list[Tensor]:
    return [weight.clone() for weight in structure.backbone.model.parameters()]


def same_bits(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_sorted_model_knows_its_way_back(gpt2: ModelStructure) -> None:
    structure = twin(gpt2)
    own = weights_of(structure)
    sorted_model = sort_units_(structure, random_orders(structure))
    in_order = weights_of(structure)
    assert not same_bits(own, in_order)
    with sorted_model.own_order() as restored:
        assert restored is structure
        with pytest.raises(AssertionError, match="in their own order again"):
            _ = sorted_model.structure
        assert same_bits(weights_of(structure), own)
    assert same_bits(weights_of(structure), in_order)
    assert sorted_model.restore_() is structure
    assert same_bits(weights_of(structure), own)


def test_a_model_that_is_in_its_own_order_again_is_not_scored(gpt2: ModelStructure) -> None:
    structure = twin(gpt2)
    own = weights_of(structure)
    sorted_model = sort_units_(structure, random_orders(structure))
    sorted_model.restore_()
    for use in (PrefixTree, LayerBuilder, SortedModel.restore_):
        with pytest.raises(AssertionError, match="in their own order again"):
            use(sorted_model)
    assert same_bits(weights_of(structure), own)


def test_a_model_can_be_taken_as_sorted(gpt2: ModelStructure) -> None:
    structure = twin(gpt2)
    own = weights_of(structure)
    sorted_model = sorted_as_is(structure)
    assert sorted_model.structure is structure
    assert same_bits(weights_of(structure), own)
    assert [order.tolist() for order in sorted_model.orders] == [
        list(range(component.unit_count)) for component in structure.components
    ]
    sorted_model.restore_()
    assert same_bits(weights_of(structure), own)


def test_only_sorting_makes_sorted_models() -> None:
    root = Path(search_spaces.__file__).parents[1]
    makers = {
        path.relative_to(root).as_posix()
        for package in ("search_spaces", "evaluators", "planner")
        for path in (root / package).rglob("*.py")
        if re.search(r"(?<!class )\bSortedModel\(", path.read_text(encoding="utf-8"))
    }
    assert makers == {"search_spaces/surgery/sort.py"}
