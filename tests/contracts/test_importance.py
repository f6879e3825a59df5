"""What every importance of units must keep to, once its name is in ``UnitImportanceName``."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluators.collectors import collect_statistics
from search_spaces.errors import DataError
from search_spaces.importance import (
    LayerImportanceName,
    UnitImportanceName,
    make_layer_importance,
    make_unit_importance,
)
from search_spaces.importance.order import rank_units
from search_spaces.importance.protocol import UnitImportance
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Projection
from search_spaces.structure.linear import bias, matrix
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.sort import sort_units_
from tests.models.candidates import random_tokens
from tests.models.factory import twin
from tests.models.families import dense

NAMES: tuple[UnitImportanceName, ...] = get_args(UnitImportanceName)
DEPTH_NAMES: tuple[LayerImportanceName, ...] = get_args(LayerImportanceName)
JUDGING = tuple(name for name in NAMES if name != "random")
WEIGHING = tuple(name for name in JUDGING if name != "activation")
"""They weigh a unit's output, and not only its activation."""
FAMILIES = ("llama", "gpt2", "phi3", "neox")
ALL = frozenset(get_args(StatisticName)) - {"removal_nll"}


def graded(name: str) -> tuple[ModelStructure, list[NDArray[np.int_]]]:
    """Return a model whose units differ in nothing but their output columns, and their true order.

    All units of a component have the same rows; the columns of the output projection are the same
    too, times a factor for each unit.
    """
    structure = twin(dense(name))
    return structure, _grade(structure, lambda p: p.side == "columns")


def louder() -> tuple[ModelStructure, list[NDArray[np.int_]]]:
    """Return a Llama whose units differ in the size of their activations alone, and their order.

    What a unit hands to the output projection is linear in its rows of these matrices.
    """
    structure = twin(dense("llama"))
    return structure, _grade(structure, lambda p: p.path in {"self_attn.v_proj", "mlp.up_proj"})


@torch.no_grad()
def _grade(
    structure: ModelStructure, is_scaled: Callable[[Projection], bool]
) -> list[NDArray[np.int_]]:
    """Make the units of each component alike, but for factors in some projections."""
    rng = np.random.default_rng(0)
    orders = []
    for component in structure.components:
        layer = structure.backbone.layers[component.layer]
        order = rng.permutation(component.unit_count)
        loudness = np.empty(component.unit_count)
        loudness[order] = np.geomspace(4.0, 0.25, component.unit_count)
        for projection in component.projections:
            linear = layer.get_submodule(projection.path)
            features = projection.by_unit  # (units, features)
            weight, offset = matrix(linear), bias(linear)
            stacked = weight if projection.side == "rows" else weight.t()
            first = stacked[features[0]].clone()
            for unit in range(component.unit_count):
                factor = float(loudness[unit]) if is_scaled(projection) else 1.0
                stacked[features[unit]] = first * factor
                if offset is not None and projection.side == "rows":
                    offset[features[unit]] = offset[features[0]]
        orders.append(order)
    return orders


def measured(
    structure: ModelStructure, wanted: frozenset[StatisticName] = ALL
) -> tuple[Statistics, ...]:
    return collect_statistics(structure, random_tokens(batch=4, length=16), wanted)


def ranked(structure: ModelStructure, name: UnitImportanceName) -> tuple[NDArray[np.int_], ...]:
    ranking = make_unit_importance(name)
    return tuple(rank_units(structure, ranking, measured(structure, ranking.statistics)))


@cache
def graded_and_measured(
    name: str,
) -> tuple[ModelStructure, list[NDArray[np.int_]], tuple[Statistics, ...]]:
    structure, expected = louder() if name == "louder" else graded(name)
    return structure, expected, measured(structure)


@pytest.mark.parametrize("name", WEIGHING)
@pytest.mark.parametrize("family_name", FAMILIES)
def test_units_known_to_be_better_are_pruned_later(
    name: UnitImportanceName, family_name: str
) -> None:
    structure, expected, statistics = graded_and_measured(family_name)
    got = rank_units(structure, make_unit_importance(name), statistics)
    assert [order.tolist() for order in got] == [order.tolist() for order in expected]


@pytest.mark.parametrize("name", JUDGING)
def test_units_with_larger_activations_are_pruned_later(name: UnitImportanceName) -> None:
    structure, expected, statistics = graded_and_measured("louder")
    got = rank_units(structure, make_unit_importance(name), statistics)
    assert [order.tolist() for order in got] == [order.tolist() for order in expected]


@pytest.mark.parametrize("name", NAMES)
def test_orders_hold_every_unit_once(name: UnitImportanceName, structure: ModelStructure) -> None:
    orders = ranked(structure, name)
    for order, component in zip(orders, structure.components, strict=True):
        assert sorted(order.tolist()) == list(range(component.unit_count))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_model_and_text_give_the_same_order(name: UnitImportanceName) -> None:
    first, second = (ranked(s, name) for s in (dense("llama"), twin(dense("llama"))))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", JUDGING)
def test_the_order_follows_the_units_wherever_they_lie(name: UnitImportanceName) -> None:
    structure = twin(dense("llama"))
    before = ranked(structure, name)
    shuffles = [np.arange(component.unit_count)[::-1].copy() for component in structure.components]
    sort_units_(structure, shuffles)
    after = ranked(structure, name)
    for old, shuffle, new in zip(before, shuffles, after, strict=True):
        assert shuffle[new].tolist() == old.tolist()


def importances(
    structure: ModelStructure, ranking: UnitImportance, statistics: tuple[Statistics, ...]
) -> list[torch.Tensor]:
    return [
        ranking.importance(component, weights, statistics[component.layer])
        for component, weights in structure.matrices()
    ]


@pytest.mark.parametrize("name", NAMES)
def test_importances_are_finite_and_one_for_each_unit(name: UnitImportanceName) -> None:
    structure = dense("qwen3")
    ranking = make_unit_importance(name)
    found = importances(structure, ranking, measured(structure, ranking.statistics))
    for component, importance in zip(structure.components, found, strict=True):
        assert importance.shape == (component.unit_count,)
        assert bool(torch.isfinite(importance).all())


class Watched(Mapping[Any, Any]):
    """Statistics that remember which of them were read."""

    def __init__(self, inside: Statistics) -> None:
        self.inside, self.read = inside, set[str]()

    def __getitem__(self, key: Any) -> Any:
        self.read.add(key[0])
        return self.inside[key]

    def __iter__(self) -> Any:
        raise AssertionError("statistics are asked for by name")

    def __len__(self) -> int:
        return len(self.inside)


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_what_it_asks_for_and_nothing_else(name: UnitImportanceName) -> None:
    structure, _, statistics = graded_and_measured("llama")
    watched = tuple(Watched(layer) for layer in statistics)
    ranking = make_unit_importance(name)
    importances(structure, ranking, watched)
    read = set[str]().union(*(layer.read for layer in watched))
    assert read - {"tokens"} == ranking.statistics


@pytest.mark.parametrize("name", NAMES)
def test_silent_units_and_dead_weights_break_nothing(name: UnitImportanceName) -> None:
    structure = twin(dense("llama"))
    with torch.no_grad():
        for path in ("mlp.up_proj", "self_attn.v_proj", "mlp.down_proj"):
            matrix(structure.backbone.layers[0].get_submodule(path)).zero_()
    ranking = make_unit_importance(name)
    for importance in importances(structure, ranking, measured(structure, ranking.statistics)):
        assert bool(torch.isfinite(importance).all())


@pytest.mark.parametrize(
    "name", [n for n in NAMES if "gram" in make_unit_importance(n).statistics]
)
def test_too_little_text_for_second_moments_is_refused(name: UnitImportanceName) -> None:
    structure, ranking = dense("llama"), make_unit_importance(name)
    few = collect_statistics(structure, random_tokens(batch=1, length=4), ranking.statistics)
    with pytest.raises(DataError, match="at least 8 tokens of calibration text, got 4"):
        rank_units(structure, ranking, few)


def test_chance_repeats_and_differs_from_block_to_block() -> None:
    structure = dense("llama")
    first = importances(
        structure, make_unit_importance("random"), tuple({} for _ in structure.layers)
    )
    again = importances(
        structure, make_unit_importance("random"), tuple({} for _ in structure.layers)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    mlps = [found.tolist() for found in first[1::2]]
    assert len({tuple(values) for values in mlps}) == len(mlps)
    assert all(len(set(values)) == len(values) for values in mlps)


@pytest.mark.parametrize("name", [n for n in NAMES if make_unit_importance(n).comparable])
def test_comparable_importances_rank_components_or_standardise_them(
    name: UnitImportanceName,
) -> None:
    structure = dense("llama")
    ranking = make_unit_importance(name)
    found = importances(structure, ranking, measured(structure, ranking.statistics))
    if name == "flap":
        for importance in found:
            assert float(importance.mean()) == pytest.approx(0, abs=1e-9)
            assert float(importance.std(correction=0)) == pytest.approx(1)
        return
    quiet = twin(structure)
    component = structure.components[5]
    with torch.no_grad():
        linear = quiet.backbone.layers[component.layer].get_submodule(
            component.projections[-1].path
        )
        matrix(linear).mul_(1e-3)
    less = importances(quiet, ranking, measured(quiet, ranking.statistics))
    assert float(less[5].max()) < 0.1 * float(found[5].max())


@pytest.mark.parametrize("name", DEPTH_NAMES)
def test_a_layer_that_does_next_to_nothing_is_pruned_first(name: LayerImportanceName) -> None:
    structure = twin(dense("llama"))
    layers = structure.backbone.layers
    with torch.no_grad():
        for path, index, factor in (
            ("self_attn.o_proj", 2, 0.01),
            ("mlp.down_proj", 2, 0.01),
            ("mlp.down_proj", 4, 0.04),
            ("self_attn.o_proj", 4, 0.0),
        ):
            matrix(layers[index].get_submodule(path)).mul_(factor)
    ranking = make_layer_importance(name)
    statistics = collect_statistics(
        structure, random_tokens(batch=4, length=16), ranking.statistics
    )
    for part, order in (("", [2, 4]), ("attention", [4, 2]), ("mlp", [2, 4])):
        found = [ranking.importance(layer, part) for layer in statistics]
        assert all(value >= 0 and np.isfinite(value) for value in found)
        assert max(found[2], found[4]) < 0.1 * max(found)
        if name != "removal":  # there a small change may lower the NLL, and counts nothing
            assert np.argsort(found, kind="stable")[:2].tolist() == order


@pytest.mark.parametrize(
    ("name", "statistic", "value", "expected"),
    [
        ("block_influence", "similarity", 0.75, 0.25),
        ("block_influence", "similarity", 1.0000001, 0.0),
        ("angular", "angle", 0.125, 0.125),
        ("removal", "removal_nll", 0.5, 0.5),
        ("removal", "removal_nll", -0.5, 0.0),
    ],
)
def test_depth_formulas(
    name: LayerImportanceName, statistic: StatisticName, value: float, expected: float
) -> None:
    ranking = make_layer_importance(name)
    assert ranking.statistics == {statistic}
    statistics: Statistics = {
        (statistic, ""): torch.tensor(7.0),
        (statistic, "mlp"): torch.tensor(value),
    }
    assert ranking.importance(statistics, "mlp") == pytest.approx(expected)
