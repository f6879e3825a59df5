"""What every ranking must keep to; a new one adds its name to ``RankingName`` and is held."""

from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from search_spaces.rankings import RankingName, make_ranking
from search_spaces.sorting import rank_units, sort_units_
from search_spaces.statistics import Statistics
from search_spaces.structure.linears import bias, matrix
from search_spaces.structure.read import ModelStructure
from tests.families import dense, twin

NAMES: tuple[RankingName, ...] = get_args(RankingName)
FAMILIES = ("llama", "gpt2", "phi3", "neox")


@torch.no_grad()
def graded(name: str) -> tuple[ModelStructure, list[NDArray[np.int_]]]:
    """Give a model whose units differ in nothing but how loud they are, and their true order.

    All units of a sub-block have the same rows; the columns of the output projection are the same
    too, times a factor for each unit.
    """
    structure = twin(dense(name))
    rng = np.random.default_rng(0)
    orders = []
    for block in structure.sub_blocks:
        layer = structure.backbone.layers[block.layer]
        order = rng.permutation(block.unit_count)
        loudness = np.empty(block.unit_count)
        loudness[order] = np.geomspace(4.0, 0.25, block.unit_count)
        for projection in block.projections:
            linear = layer.get_submodule(projection.path)
            features = torch.from_numpy(projection.by_unit)  # (units, features)
            weight, offset = matrix(linear), bias(linear)
            for unit in range(block.unit_count):
                if projection.side == "rows":
                    weight[features[unit]] = weight[features[0]]
                    if offset is not None:
                        offset[features[unit]] = offset[features[0]]
                elif unit:
                    weight[:, features[unit]] = weight[:, features[0]] * float(loudness[unit])
            if projection.side == "columns":
                weight[:, features[0]] *= float(loudness[0])
        orders.append(order)
    return structure, orders


def measured(structure: ModelStructure) -> tuple[Statistics, ...]:
    return X


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family_name", FAMILIES)
def test_units_known_to_be_better_stay_longer(name: RankingName, family_name: str) -> None:
    structure, expected = graded(family_name)
    got = rank_units(structure, make_ranking(name), measured(structure))
    assert [order.tolist() for order in got] == [order.tolist() for order in expected]


@pytest.mark.parametrize("name", NAMES)
def test_orders_hold_every_unit_once(name: RankingName, structure: ModelStructure) -> None:
    orders = rank_units(structure, make_ranking(name), measured(structure))
    for order, block in zip(orders, structure.sub_blocks, strict=True):
        assert sorted(order.tolist()) == list(range(block.unit_count))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_model_and_text_give_the_same_order(name: RankingName) -> None:
    first, second = (
        rank_units(structure, make_ranking(name), measured(structure))
        for structure in (dense("llama"), twin(dense("llama")))
    )
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_follows_the_units_wherever_they_lie(name: RankingName) -> None:
    structure = twin(dense("llama"))
    before = rank_units(structure, make_ranking(name), measured(structure))
    shuffles = [np.arange(block.unit_count)[::-1].copy() for block in structure.sub_blocks]
    sort_units_(structure, shuffles)
    after = rank_units(structure, make_ranking(name), measured(structure))
    for old, shuffle, new in zip(before, shuffles, after, strict=True):
        assert shuffle[new].tolist() == old.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_importances_are_finite_and_one_for_each_unit(name: RankingName) -> None:
    structure = dense("qwen3")
    ranking, statistics = make_ranking(name), measured(structure)
    for block in structure.sub_blocks:
        layer = structure.backbone.layers[block.layer]
        weights = {p.path: matrix(layer.get_submodule(p.path)) for p in block.projections}
        importance = ranking.importance(block, weights, statistics[block.layer])
        assert importance.shape == (block.unit_count,)
        assert bool(torch.isfinite(importance).all())
