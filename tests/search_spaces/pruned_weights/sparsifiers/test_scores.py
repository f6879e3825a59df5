"""The scores of sparsifiers and their ties, by hand."""

import pytest
import torch

from search_spaces.pruned_weights.sparsifiers.gblm_mask import GblmPruner
from search_spaces.pruned_weights.sparsifiers.magnitude_mask import Magnitude
from search_spaces.pruned_weights.sparsifiers.masks import lowest, zeros_by_matrix, zeros_by_row
from search_spaces.pruned_weights.sparsifiers.pruner_zero import PrunerZero
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics

HALF = SparsityPattern.parse("50%")


def kept(sparse: torch.Tensor) -> list[list[int]]:
    return [row.nonzero()[:, 0].tolist() for row in sparse]


def test_magnitude_compares_across_rows() -> None:
    weight = torch.tensor([[1.0, -2.0], [3.0, -4.0]])
    sparse = Magnitude().sparsified(weight, HALF, MatrixStatistics(tokens=0, values={}))
    assert sparse.tolist() == [[0.0, 0.0], [3.0, -4.0]]


def test_gblm_adds_gradients_to_inputs() -> None:
    # |W| (‖X‖ + 25 ‖G‖): 1 · (2 + 0), 1 · (1 + 25 · 0.2 = 6), 2 · (1 + 0), 1 · (3 + 0)
    statistics = MatrixStatistics(
        tokens=0,
        values={
            "input_second_moment": torch.tensor([4.0, 1.0, 1.0, 9.0]),
            "gradient_second_moment": torch.tensor([[0.0, 0.04, 0.0, 0.0]]),
        },
    )
    weight = torch.tensor([[1.0, 1.0, -1.9, 1.0]])
    assert kept(GblmPruner().sparsified(weight, HALF, statistics)) == [[1, 3]]
    assert kept(GblmPruner(0.0).sparsified(weight, HALF, statistics)) == [[0, 3]]


def test_pruner_zero_scales_gradients_between_their_extremes() -> None:
    # roots 1, 2, 3, 5 → shares 0, ¼, ½, 1; times squares 100, 9, 4, 1.21 → 0, 2.25, 2, 1.21
    statistics = MatrixStatistics(
        tokens=0, values={"gradient_second_moment": torch.tensor([[1.0, 4.0, 9.0, 25.0]])}
    )
    weight = torch.tensor([[10.0, 3.0, -2.0, 1.1]])
    assert kept(PrunerZero().sparsified(weight, HALF, statistics)) == [[1, 2]]


def test_pruner_zero_goes_by_size_where_gradients_are_equal() -> None:
    statistics = MatrixStatistics(tokens=0, values={"gradient_second_moment": torch.ones(1, 4)})
    weight = torch.tensor([[1.0, 3.0, -4.0, 2.0]])
    assert kept(PrunerZero().sparsified(weight, HALF, statistics)) == [[1, 2]]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
def test_ties_go_by_position(count: int) -> None:
    scores = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0], [2.0, 2.0, 2.0, 2.0, 2.0]])
    marked = lowest(scores, count)
    for row, found in zip(scores.tolist(), marked, strict=True):
        order = sorted(range(5), key=row.__getitem__)
        assert found.nonzero()[:, 0].tolist() == sorted(order[:count])


def test_ties_across_rows_go_by_position() -> None:
    assert zeros_by_matrix(torch.ones(2, 3), SparsityPattern.parse("34%")).tolist() == [
        [True, True, False],
        [False, False, False],
    ]


def test_groups_are_compared_within() -> None:
    scores = torch.tensor([[9.0, 8.0, 7.0, 6.0, 1.0, 2.0, 3.0, 4.0]])
    for zeros in (zeros_by_row, zeros_by_matrix):
        marked = zeros(scores, SparsityPattern.parse("2:4"))
        assert marked.int().tolist() == [[0, 0, 1, 1, 1, 1, 0, 0]]
