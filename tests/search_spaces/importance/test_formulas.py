"""The formula of each importance against sums done by hand."""

import itertools
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from search_spaces.errors import DataError
from search_spaces.importance import UnitImportanceName, make_unit_importance
from search_spaces.linalg import damped_inverse
from search_spaces.statistics import StatisticName
from search_spaces.structure import Component, Projection
from search_spaces.structure.projections import Projections

Values = dict[tuple[StatisticName, str], Tensor]
# columns and rows 0 and 2 are unit 0, 1 and 3 are unit 1
DOWN = torch.tensor([[1.0, 2.0, 3.0, 0.0], [-1.0, 0.0, 1.0, 2.0]])
UP = torch.tensor([[1.0, -1.0], [2.0, 0.0], [0.0, 3.0], [-1.0, 1.0]])
WEIGHTS = {"up": UP, "down": DOWN}
BLOCK = Projections(
    kind="mlp",
    layer=0,
    unit_count=2,
    projections=(
        Projection(path="up", side="rows", units=np.array([0, 1, 0, 1])),
        Projection(path="down", side="columns", units=np.array([0, 1, 0, 1])),
    ),
    module="mlp",
)


def importance(
    name: UnitImportanceName, component: Component = BLOCK, **values: list[Any]
) -> list[float]:
    """Importances from statistics of the output projection; those of ``up`` are far away."""
    statistics: Values = {("tokens", ""): torch.tensor(100.0)}
    for statistic, value in values.items():
        key = cast("StatisticName", statistic)
        statistics[key, "down"] = torch.tensor(value)
        statistics[key, "up"] = torch.full((2,), 1e6)
    found: list[float] = (
        make_unit_importance(name).importance(component, WEIGHTS, statistics).tolist()
    )
    return found


def test_magnitude_adds_up_all_squares_of_a_unit() -> None:
    # up 1 + 1 + 9, down 1 + 1 + 9 + 1; up 4 + 1 + 1, down 4 + 4
    assert importance("magnitude") == [23.0, 14.0]


def test_wanda_is_the_energy_that_a_unit_adds() -> None:
    # (1² + 1²)·1 + (3² + 1²)·0.5 and (2² + 0²)·4 + (0² + 2²)·0.25
    assert importance("wanda", input_second_moment=[1.0, 4.0, 0.5, 0.25]) == [7.0, 17.0]
    assert make_unit_importance("wanda").statistics == {"input_second_moment"}


def test_fluctuations_are_variances_times_squared_columns_and_standardised() -> None:
    # variances 2, 0, 1, 3 times squared columns 2, 4, 10, 4: units 14 and 12
    found = importance(
        "flap", input_mean=[1.0, 2.0, 0.0, -1.0], input_second_moment=[3.0, 4.0, 1.0, 4.0]
    )
    assert found == pytest.approx([1.0, -1.0])


def test_units_that_fluctuate_alike_count_alike() -> None:
    found = importance("flap", input_mean=[1.0] * 4, input_second_moment=[1.0] * 4)
    assert found == [0.0, 0.0]


def test_taylor_adds_up_sizes_and_not_signed_products() -> None:
    slopes = torch.tensor([[1.0, 1.0, -1.0, 5.0], [1.0, 7.0, 0.5, 0.0]])
    statistics: Values = {
        ("gradient", "down"): slopes,
        ("gradient", "up"): torch.tensor([[2.0, 2.0], [1.0, 9.0], [4.0, 1.0], [0.0, -1.0]]),
    }
    found = make_unit_importance("taylor").importance(BLOCK, WEIGHTS, statistics).tolist()
    # up 2 + 2 + 3, down 1 + 1 + 3 + 0.5; up 2 + 1, down 2
    assert found == [12.5, 5.0]


def test_fisher_is_the_measured_information() -> None:
    assert importance("fisher", gate_fisher=[0.25, 4.0]) == [0.25, 4.0]


def test_gradients_and_activations_are_blended() -> None:
    found = importance(
        "gblm",
        input_second_moment=[1.0, 4.0, 0.25, 0.0],
        gradient_second_moment=[[1.6e-3, 0.0, 0.0, 4e-4], [0.0, 0.0, 1.6e-3, 0.0]],
    )
    # a gradient of 0.04 weighs as an input of 1
    # unit 0: (1·(1 + 1))² + 1² + (3·0.5)² + (1·(0.5 + 1))²; unit 1: (2·2)² + (0·2)²
    assert found == pytest.approx([4 + 1 + 2.25 + 2.25, 16.0])


def test_activations_of_channels_are_mean_sizes_and_of_heads_norms() -> None:
    values: dict[str, Any] = {
        "input_magnitude": [1.0, 2.0, 3.0, 4.0],
        "input_second_moment": [9.0, 5.0, 16.0, 4.0],
    }
    assert importance("activation", **values) == [4.0, 6.0]
    heads = replace(BLOCK, kind="attention")
    assert importance("activation", heads, **values) == [5.0, 3.0]


def test_relative_importance_is_shares_times_activation() -> None:
    found = importance("cfsp", input_second_moment=[1.0, 4.0, 0.25, 1.0])
    # down by row: 1, 4, 1.5, 0 of 6.5 and 1, 0, 0.5, 2 of 3.5; up by column: of 4 and of 5
    down = [(2.5 / 6.5 + 1.5 / 3.5) / 2, (4 / 6.5 + 2 / 3.5) / 2]
    up = [(1 / 4 + 4 / 5) / 2, (3 / 4 + 1 / 5) / 2]
    loud = [1.25**0.5, 5**0.5]
    assert found == pytest.approx([loud[u] * (down[u] + up[u]) for u in range(2)])


def best_error(weight: Tensor, moments: Tensor, gone: list[int]) -> float:
    """What is left of the output's error where some columns go and the others do their best."""
    stay = [column for column in range(weight.shape[1]) if column not in gone]
    if not stay:
        return float(torch.trace(weight @ moments @ weight.t()))
    # normal equations of min ‖(W − W') X‖² over the columns of W' that stay
    best = torch.linalg.solve(moments[stay][:, stay], moments[stay] @ weight.t()).t()
    gap = weight.clone()
    gap[:, stay] -= best
    return float(torch.trace(gap @ moments @ gap.t()))


@pytest.mark.parametrize("size", [1, 3])
def test_surgery_costs_what_the_best_update_leaves(size: int) -> None:
    """Greedy removal where each step solves the normal equations of every choice anew."""
    rng = np.random.default_rng(0)
    units = 5
    columns = rng.permutation(np.repeat(np.arange(units), size))
    weight = torch.from_numpy(rng.normal(size=(4, len(columns))))
    inputs = torch.from_numpy(rng.normal(size=(200, 2)) @ rng.normal(size=(2, len(columns))))
    inputs += 0.3 * torch.from_numpy(rng.normal(size=inputs.shape))
    gram = (inputs.t() @ inputs / len(inputs)).float()
    damped = gram.double() + 0.01 * gram.double().diagonal().mean() * torch.eye(len(gram))
    expected = np.zeros(units)
    gone: list[int] = []
    for _ in range(units):
        costs = {
            unit: best_error(
                weight, damped, [i for i, u in enumerate(columns) if u in [*gone, unit]]
            )
            for unit in range(units)
            if unit not in gone
        }
        unit = min(costs, key=lambda u: costs[u])
        expected[unit] = costs[unit]
        gone.append(unit)
    component = Projections(
        kind="mlp",
        layer=0,
        unit_count=units,
        projections=(Projection(path="down", side="columns", units=columns),),
        module="mlp",
    )
    statistics: Values = {
        ("tokens", ""): torch.tensor(200.0),
        ("gram", "down"): gram,
    }
    found = make_unit_importance("obs").importance(component, {"down": weight}, statistics)
    assert found.numpy() == pytest.approx(expected, rel=1e-6)


def channels(count: int, gram: Tensor, tokens: float = 1e4) -> tuple[Component, Values]:
    projection = Projection(path="down", side="columns", units=np.arange(count))
    component = Projections(
        kind="mlp", layer=0, unit_count=count, projections=(projection,), module="mlp"
    )
    return component, {("tokens", ""): torch.tensor(tokens), ("gram", "down"): gram}


def test_surgery_in_steps_of_several_units_ends_in_the_same_error() -> None:
    rng = np.random.default_rng(1)
    count = 300  # three at a time
    weight = torch.from_numpy(rng.normal(size=(8, count)))
    inputs = torch.from_numpy(rng.normal(size=(900, count)) * rng.uniform(0.1, 2, count))
    gram = (inputs.t() @ inputs / len(inputs)).float()
    component, statistics = channels(count, gram)
    found = make_unit_importance("obs").importance(component, {"down": weight}, statistics)
    damped = gram.double() + 0.01 * gram.double().diagonal().mean() * torch.eye(count)
    order = found.argsort()
    for done in (3, 90, 297, 300):
        error = best_error(weight, damped, order[:done].tolist())
        assert float(found[order[done - 1]]) == pytest.approx(error, rel=1e-6)
    values = found[order].tolist()
    assert all(low < high for low, high in itertools.pairwise(values))


def test_surgery_prefers_what_others_can_stand_in_for() -> None:
    """Of two channels that are always equal, and larger than a third, one is pruned first."""
    inputs = torch.tensor([[2.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    component, statistics = channels(3, inputs.t() @ inputs / 2)
    weight = torch.tensor([[1.0, 1.1, 1.0]])
    found = make_unit_importance("obs").importance(component, {"down": weight}, statistics)
    assert int(found.argmin()) == 0
    energies = weight.square()[0] * (inputs.square().mean(dim=0))
    assert int(energies.argmin()) == 2


def test_surgery_needs_enough_text() -> None:
    component, statistics = channels(100, torch.eye(100), tokens=24)
    message = "`obs` of 100 inputs needs at least 25 tokens of calibration text, got 24"
    with pytest.raises(DataError, match=message):
        make_unit_importance("obs").importance(component, {"down": torch.ones(2, 100)}, statistics)


@pytest.mark.parametrize("rank", [0, 1, 6])
def test_inverses_are_those_of_damped_matrices_however_singular(rank: int) -> None:
    inputs = torch.from_numpy(np.random.default_rng(0).normal(size=(rank, 6)))
    gram = (inputs.t() @ inputs).float()
    damping = 0.01 * float(gram.double().diagonal().mean()) or 1.0
    found = damped_inverse(gram, "this test")
    assert found.dtype == torch.float64
    eye = torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(found @ (gram.double() + damping * eye), eye, rtol=0, atol=1e-9)
