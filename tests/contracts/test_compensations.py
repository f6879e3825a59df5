"""What every compensation must keep to; a new one adds its name to ``CompensationName``."""

import dataclasses
from collections.abc import Sequence
from typing import get_args

import pytest
import torch
from torch import Tensor

from search_spaces.errors import DataError
from search_spaces.pruned_weights.compensation import (
    CompensationName,
    RidgeName,
    make_compensation,
)
from search_spaces.pruned_weights.compensation.protocol import CompensatedWeights
from search_spaces.pruned_weights.compensation.ridge import RIDGE
from search_spaces.statistics import MatrixStatistics

NAMES: tuple[CompensationName, ...] = get_args(CompensationName)
FITTED: tuple[RidgeName, ...] = get_args(RidgeName)
ROWS, COLUMNS = 12, 24
WIDTHS = (1, 5, 12, 23)


def correlated(tokens: int, seed: int, factors: int = 6) -> Tensor:
    """Draw inputs ``(tokens, columns)`` of a few common causes, some noise, and a mean."""
    mixing = torch.randn(factors, COLUMNS, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    causes = torch.randn(tokens, factors, generator=generator)
    noise = torch.randn(tokens, COLUMNS, generator=generator)
    return causes @ mixing + 0.3 * noise + torch.linspace(-1, 2, COLUMNS)


def random_weight(seed: int = 1) -> Tensor:
    return torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed))


def measured(inputs: Tensor, weight: Tensor) -> MatrixStatistics:
    """Compute all statistics by hand; the student runs as the dense model does."""
    gram = inputs.double().T @ inputs.double() / len(inputs)
    return MatrixStatistics(
        tokens=len(inputs),
        values={
            "input_mean": inputs.mean(dim=0),
            "gram": gram.float(),
            "student_gram": gram.float(),
            "teacher_cross": (weight.double() @ gram).float(),
        },
    )


def compensated_weights(
    name: CompensationName, weight: Tensor, statistics: MatrixStatistics
) -> list[CompensatedWeights]:
    return list(make_compensation(name).compensate(weight, WIDTHS, statistics))


def error(compensated: CompensatedWeights, weight: Tensor, inputs: Tensor) -> float:
    """Return the mean squared error of the output over tokens."""
    got = inputs[:, : compensated.weight.shape[1]] @ compensated.weight.T
    if compensated.bias is not None:
        got = got + compensated.bias
    return float((inputs @ weight.T - got).square().mean())


def slices(weight: Tensor) -> list[CompensatedWeights]:
    return [CompensatedWeights(weight=weight[:, :count]) for count in WIDTHS]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_nearer_to_the_dense_ones_than_a_slice_gives(
    name: CompensationName, seed: int
) -> None:
    weight = random_weight()
    by_width = compensated_weights(name, weight, measured(correlated(2000, 0), weight))
    for compensated, plain in zip(by_width, slices(weight), strict=True):
        assert not compensated.fallback
        inputs = correlated(2000, seed)  # the second draw was held out
        assert error(compensated, weight, inputs) < 0.95 * error(plain, weight, inputs)


@pytest.mark.parametrize("name", NAMES)
def test_compensated_weights_have_the_widths_and_leave_the_weight_alone(
    name: CompensationName,
) -> None:
    weight = random_weight()
    before = weight.clone()
    by_width = compensated_weights(name, weight, measured(correlated(500, 0), weight))
    assert [tuple(compensated.weight.shape) for compensated in by_width] == [
        (ROWS, k) for k in WIDTHS
    ]
    assert all(compensated.weight.dtype == torch.float32 for compensated in by_width)
    biases = [compensated.bias for compensated in by_width]
    assert all((found is not None) == make_compensation(name).adds_bias for found in biases)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("name", NAMES)
def test_one_width_alone_is_that_width_among_others(name: CompensationName) -> None:
    weight = random_weight()
    statistics = measured(correlated(500, 0), weight)
    for count, among in zip(WIDTHS, compensated_weights(name, weight, statistics), strict=True):
        (alone,) = make_compensation(name).compensate(weight, [count], statistics)
        assert torch.allclose(alone.weight, among.weight, rtol=1e-5, atol=1e-6)
    assert list(make_compensation(name).compensate(weight, [], statistics)) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_same_statistics_give_the_same_weights(name: CompensationName) -> None:
    weight = random_weight()
    statistics = measured(correlated(500, 0), weight)
    first, second = (
        compensated_weights(name, weight, statistics),
        compensated_weights(name, weight, statistics),
    )
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_zero_weights_stay_zero(name: CompensationName) -> None:
    weight = torch.zeros(ROWS, COLUMNS)
    for compensated in compensated_weights(name, weight, measured(correlated(500, 0), weight)):
        assert not compensated.weight.any()
        assert compensated.bias is None or not compensated.bias.any()


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_are_always_zero_cost_nothing(name: CompensationName) -> None:
    weight, inputs = random_weight(), correlated(500, 0)
    inputs[:, [0, 3, 20]] = 0
    statistics = measured(inputs, weight)
    for compensated, plain in zip(
        compensated_weights(name, weight, statistics), slices(weight), strict=True
    ):
        assert compensated.weight.isfinite().all()
        assert error(compensated, weight, inputs) <= error(plain, weight, inputs) * (1 + 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_statistics_that_are_not_finite_leave_the_dense_weights(name: CompensationName) -> None:
    weight, inputs = random_weight(), correlated(500, 0)
    inputs[3] = torch.inf
    for compensated, plain in zip(
        compensated_weights(name, weight, measured(inputs, weight)), slices(weight), strict=True
    ):
        assert "not finite" in compensated.fallback + compensated.notice
        assert torch.equal(compensated.weight, plain.weight)
        # where one is paid for there is one, which adds nothing
        assert compensated.bias is None or (name == "bias" and not compensated.bias.any())


def test_a_bias_gives_the_output_its_mean_back() -> None:
    weight, inputs = random_weight(), correlated(500, 0)
    for compensated in compensated_weights("bias", weight, measured(inputs, weight)):
        count = compensated.weight.shape[1]
        assert torch.equal(compensated.weight, weight[:, :count])
        assert compensated.bias is not None
        mean = (inputs[:, :count] @ compensated.weight.T + compensated.bias).mean(dim=0)
        assert torch.allclose(mean, (inputs @ weight.T).mean(dim=0), atol=1e-4)


@pytest.mark.parametrize("name", FITTED)
def test_inputs_that_follow_from_the_kept_ones_cost_nothing(name: RidgeName) -> None:
    weight, inputs = random_weight(), correlated(500, 0)
    inputs[:, 5:] = inputs[:, :5] @ torch.randn(
        5, COLUMNS - 5, generator=torch.Generator().manual_seed(3)
    )
    statistics = measured(inputs.double().float(), weight)
    undamped = dataclasses.replace(RIDGE[name], damping=1e-9)
    for compensated in undamped.compensate(weight, [5, 12, 23], statistics):
        scale = float((inputs @ weight.T).square().mean())
        assert (
            error(compensated, weight, inputs) <= 1e-6 * scale
        )  # float32 statistics, and damping


@pytest.mark.parametrize("name", FITTED)
def test_weights_are_those_of_the_formula(name: RidgeName) -> None:
    weight = random_weight()
    statistics = measured(correlated(500, 0), weight)
    gram, dense = statistics["gram"].double(), weight.double()
    damping = RIDGE[name].damping * float(gram.diagonal().mean())
    for count, compensated in zip(
        WIDTHS, compensated_weights(name, weight, statistics), strict=True
    ):
        inverse = torch.linalg.inv(gram[:count, :count] + damping * torch.eye(count).double())
        if name == "least_squares":
            expected = dense @ gram[:, :count] @ inverse
        else:
            expected = dense[:, :count] + dense[:, count:] @ gram[count:, :count] @ inverse
        assert torch.allclose(compensated.weight.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FITTED)
def test_fewer_tokens_than_inputs_are_warned_of_and_used_where_they_help(
    name: RidgeName,
) -> None:
    weight, inputs = random_weight(), correlated(15, 0)
    by_width = compensated_weights(name, weight, measured(inputs, weight))
    for compensated, plain in zip(by_width, slices(weight), strict=True):
        assert error(compensated, weight, inputs) < error(plain, weight, inputs)
    assert [bool(compensated.notice) for compensated in by_width] == [False, False, False, True]
    assert "15 tokens" in by_width[-1].notice
    assert "--calibration_windows" in by_width[-1].notice


@pytest.mark.parametrize("name", FITTED)
def test_hopelessly_few_tokens_are_refused(name: RidgeName) -> None:
    weight = random_weight()
    with pytest.raises(DataError, match=r"24 inputs needs at least 6 tokens .* got 5"):
        compensated_weights(name, weight, measured(correlated(5, 0), weight))


@pytest.mark.parametrize("name", FITTED)
def test_inputs_that_are_all_zero_leave_the_dense_weights(name: RidgeName) -> None:
    weight = random_weight()
    by_width = compensated_weights(name, weight, measured(torch.zeros(50, COLUMNS), weight))
    assert all("all zero" in compensated.fallback for compensated in by_width)


@pytest.mark.parametrize("name", FITTED)
def test_a_matrix_that_no_damping_fixes_leaves_the_dense_weights(name: RidgeName) -> None:
    weight = random_weight()
    statistics = measured(correlated(500, 0), weight)
    broken = statistics["gram"] - 200 * torch.ones(COLUMNS, COLUMNS)
    broken.fill_diagonal_(1.0)
    values = {**statistics.values, "gram": broken, "student_gram": broken}
    by_width = compensated_weights(name, weight, MatrixStatistics(tokens=500, values=values))
    for compensated, plain in zip(by_width, slices(weight), strict=True):
        most = f"{100 * 1000 * RIDGE[name].damping:g} %"
        assert f"not positive definite with damping of {most}" in compensated.fallback
        assert torch.equal(compensated.weight, plain.weight)


@pytest.mark.parametrize("name", FITTED)
def test_damping_is_raised_where_that_is_enough_and_warned_of(name: RidgeName) -> None:
    weight = random_weight()
    statistics = measured(correlated(500, 0), weight)
    gram = statistics["gram"].double()
    # an eigenvalue below zero, as rounding leaves it, beyond the first damping and not the second
    values, vectors = torch.linalg.eigh(gram)
    values[0] = -5 * RIDGE[name].damping * values.mean()
    off = ((vectors * values) @ vectors.T).float()
    changed = {**statistics.values, "gram": off, "student_gram": off}
    by_width = compensated_weights(name, weight, MatrixStatistics(tokens=500, values=changed))
    raised = f"damping of {100 * 10 * RIDGE[name].damping:g} %"
    assert any(raised in compensated.notice for compensated in by_width)


def test_least_squares_that_damping_spoils_leaves_the_dense_weights() -> None:
    weight = random_weight()
    inputs = torch.randn(5000, COLUMNS, generator=torch.Generator().manual_seed(0))
    inputs[:, 20:] = 0  # nothing is lost, and damping pulls towards zero
    statistics = measured(inputs, weight)
    (plain,) = RIDGE["least_squares"].compensate(weight, [20], statistics)
    assert "larger error" in plain.fallback
    assert torch.equal(plain.weight, weight[:, :20])
    (same,) = RIDGE["obs"].compensate(weight, [20], statistics)
    assert not same.fallback
    assert torch.allclose(same.weight, weight[:, :20], atol=1e-5)


def test_tuning_compensates_for_inputs_that_went_wrong_before() -> None:
    weight, inputs = random_weight(), correlated(2000, 0)
    student = 0.5 * inputs + 0.1 * correlated(2000, 5)
    outputs = inputs @ weight.T
    statistics = MatrixStatistics(
        tokens=2000,
        values={
            "student_gram": student.T @ student / 2000,
            "teacher_cross": outputs.T @ student / 2000,
            "gram": inputs.T @ inputs / 2000,
        },
    )

    def gap(by_width: Sequence[CompensatedWeights]) -> list[float]:
        return [
            float((outputs - student[:, :count] @ compensated.weight.T).square().mean())
            for count, compensated in zip(WIDTHS, by_width, strict=True)
        ]

    tuned, blind = (
        gap(compensated_weights(name, weight, statistics)) for name in ("tuning", "obs")
    )
    assert all(a < b for a, b in zip(tuned, blind, strict=True))
    assert all(a < 0.3 * b for a, b in zip(tuned[2:], blind[2:], strict=True))
