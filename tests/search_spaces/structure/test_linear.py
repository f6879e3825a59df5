"""Linear layers of either make, cut, sliced and reordered as plain indexing would."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from search_spaces.structure import linear as linears

ROWS, COLUMNS = 6, 4


def plain() -> nn.Module:
    return nn.Linear(COLUMNS, ROWS)


def without_bias() -> nn.Module:
    return nn.Linear(COLUMNS, ROWS, bias=False)


def transposed() -> nn.Module:
    made = Conv1D(ROWS, COLUMNS)  # type: ignore[no-untyped-call]
    nn.init.normal_(made.bias)
    return made


@pytest.fixture(params=[plain, without_bias, transposed])
def linear(request: pytest.FixtureRequest) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = request.param()
    assert isinstance(made, nn.Module)
    return made.requires_grad_(requires_grad=False)


@pytest.fixture
def inputs() -> Tensor:
    return torch.linspace(-1, 1, 3 * COLUMNS).reshape(1, 3, COLUMNS)


def by_hand(linear: nn.Module, inputs: Tensor) -> Tensor:
    weight, bias = linears.matrix(linear), linears.bias(linear)
    product = torch.einsum("...c,rc->...r", inputs, weight)
    return product if bias is None else product + bias


def test_a_linear_layer_is_its_matrix_and_bias(linear: nn.Module, inputs: Tensor) -> None:
    assert linears.is_linear(linear)
    assert linears.matrix(linear).shape == (ROWS, COLUMNS)
    torch.testing.assert_close(linear(inputs), by_hand(linear, inputs))


@pytest.mark.parametrize("module", [nn.LayerNorm(4), nn.Embedding(4, 4), nn.Conv1d(4, 4, 1)])
def test_other_modules_are_no_linear_layers(module: nn.Module) -> None:
    assert not linears.is_linear(module)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ([], []),
        ([0, 0], []),
        ([1], [(0, 1)]),
        ([1, 1, 0, 1], [(0, 2), (3, 4)]),
        ([0, 1, 0, 1, 1], [(1, 2), (3, 5)]),
    ],
)
def test_runs_of_true_values(keep: list[int], expected: list[tuple[int, int]]) -> None:
    assert linears.runs(np.array(keep, dtype=bool)) == expected


def test_sliced_rows_give_some_outputs(linear: nn.Module, inputs: Tensor) -> None:
    keep = np.array([True, True, False, False, True, False])
    sliced = linears.sliced_rows(linear, keep)
    assert len(sliced.pieces) == 2
    torch.testing.assert_close(sliced(inputs), linear(inputs)[..., torch.from_numpy(keep)])


def test_sliced_columns_read_some_inputs(linear: nn.Module, inputs: Tensor) -> None:
    sliced = linears.sliced_columns(linear, np.array([True, True, True, False]))
    blind = torch.cat([inputs[..., :3], torch.zeros(1, 3, 1)], dim=-1)
    torch.testing.assert_close(sliced(inputs[..., :3]), linear(blind))


def test_cut_rows_hold_some_outputs(linear: nn.Module, inputs: Tensor) -> None:
    smaller = linears.cut_rows(linear, np.array([1, 2, 5]))
    assert type(smaller) is type(linear)
    torch.testing.assert_close(smaller(inputs), linear(inputs)[..., [1, 2, 5]])
    assert not any(weight.requires_grad for weight in smaller.parameters())


def test_cut_columns_hold_some_inputs(linear: nn.Module, inputs: Tensor) -> None:
    smaller = linears.cut_columns(linear, np.array([0, 3]))
    assert type(smaller) is type(linear)
    blind = inputs * torch.tensor([1.0, 0, 0, 1])
    torch.testing.assert_close(smaller(inputs[..., [0, 3]]), linear(blind))


def test_cut_layers_share_nothing(linear: nn.Module) -> None:
    before = linears.matrix(linear).clone()
    for smaller in (
        linears.cut_rows(linear, np.arange(3)),
        linears.cut_columns(linear, np.arange(2)),
    ):
        for weight in smaller.parameters():
            weight.data.zero_()
    assert torch.equal(linears.matrix(linear), before)
    bias = linears.bias(linear)
    assert bias is None or bool(bias.any())


def test_permuted_rows_and_columns(linear: nn.Module, inputs: Tensor) -> None:
    before, weight, old_bias = copy.deepcopy(
        (linear(inputs), linears.matrix(linear), linears.bias(linear))
    )
    rows, columns = np.array([3, 0, 5, 1, 4, 2]), np.array([2, 0, 3, 1])
    linears.permute_rows_(linear, rows)
    # weights bit by bit, products but for rounding: kernels part their sums by a row's place
    assert torch.equal(linears.matrix(linear), weight[rows])
    bias = linears.bias(linear)
    if bias is not None and old_bias is not None:
        assert torch.equal(bias, old_bias[rows])
    torch.testing.assert_close(linear(inputs), before[..., torch.from_numpy(rows)])
    linears.permute_columns_(linear, columns)
    assert torch.equal(linears.matrix(linear), weight[rows][:, columns])
    torch.testing.assert_close(
        linear(inputs[..., torch.from_numpy(columns)]), before[..., torch.from_numpy(rows)]
    )


def test_a_sliced_layer_joins_its_pieces() -> None:
    first, second = torch.eye(3)[:1], torch.eye(3)[1:] * 2
    joined = linears.SlicedLinear([(first, torch.ones(1)), (second, None)])
    inputs = torch.tensor([[1.0, 2, 3]])
    assert torch.equal(joined(inputs), torch.tensor([[2.0, 4, 6]]))
    assert torch.equal(
        linears.SlicedLinear([(second, None)])(inputs), functional.linear(inputs, second)
    )
