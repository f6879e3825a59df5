"""ADMM against least squares, DSnoT against the error that it expects to lower."""

import pytest
import torch
from torch import Tensor

from search_spaces.pruned_weights.refinements import dsnot, make_refinement
from search_spaces.pruned_weights.refinements.dsnot import DSnoT
from search_spaces.pruned_weights.sparsifiers import SparsifierName, make_sparsifier
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics

PATTERNS = tuple(map(SparsityPattern.parse, ("50%", "80%", "2:4")))


def problem() -> tuple[Tensor, MatrixStatistics]:
    rng = torch.Generator().manual_seed(3)
    shared = torch.randn(2000, 12, generator=rng) @ torch.randn(12, 64, generator=rng)
    inputs = 0.3 * shared + torch.randn(2000, 64, generator=rng) + 0.5
    inputs = inputs * torch.rand(64, generator=rng).exp().square()
    return torch.randn(16, 64, generator=rng), MatrixStatistics(
        tokens=2000,
        values={
            "gram": inputs.T @ inputs / 2000,
            "input_mean": inputs.mean(dim=0),
            "input_second_moment": inputs.square().mean(dim=0),
        },
    )


def row_errors(weight: Tensor, sparse: Tensor, gram: Tensor) -> Tensor:
    missing = (weight - sparse).double()
    return ((missing @ gram.double()) * missing).sum(dim=1)


@pytest.mark.parametrize("maker", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_admm_comes_near_least_squares_on_its_mask(
    pattern: SparsityPattern, maker: SparsifierName
) -> None:
    weight, statistics = problem()
    gram = statistics["gram"]
    sparse = make_sparsifier(maker).sparsified(weight, pattern, statistics)
    refined = make_refinement("admm").refined(sparse, weight, pattern, statistics)
    assert torch.equal(refined == 0, sparse == 0)
    best = torch.zeros_like(weight)
    for row, kept in enumerate(sparse != 0):
        columns = kept.nonzero()[:, 0]
        best[row, columns] = torch.linalg.solve(
            gram[columns][:, columns], gram[columns] @ weight[row]
        )
    before, after, least = (row_errors(weight, each, gram) for each in (sparse, refined, best))
    assert bool((after <= before).all())
    assert float(after.sum()) < 1.03 * float(least.sum())
    # what a sparsifier left to be gained is gained almost whole
    gained = (before - after).sum() / (before - least).sum()
    assert float(gained) > 0.95


def test_admm_leaves_a_row_that_is_best_already() -> None:
    weight, statistics = problem()
    sparse = weight.clone()
    refined = make_refinement("admm").refined(
        sparse, weight, SparsityPattern.parse("0%"), statistics
    )
    assert torch.equal(refined, weight)


@pytest.mark.parametrize("maker", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_dsnot_lowers_the_expected_error_of_every_row(
    pattern: SparsityPattern, maker: SparsifierName
) -> None:
    weight, statistics = problem()
    sparse = make_sparsifier(maker).sparsified(weight, pattern, statistics)
    refined = make_refinement("dsnot").refined(sparse, weight, pattern, statistics)
    mean = statistics["input_mean"]
    before, after = (((weight - each) @ mean).abs() for each in (sparse, refined))
    assert bool((after <= before + 1e-5).all())  # float32 sums
    assert float(after.sum()) < 0.5 * float(before.sum())
    assert torch.equal((refined == 0).sum(dim=1), (sparse == 0).sum(dim=1))
    grown = (sparse == 0) & (refined != 0)
    assert torch.equal(refined[grown], weight[grown])
    stayed = (sparse != 0) & (refined != 0)
    assert torch.equal(refined[stayed], sparse[stayed])


def test_dsnot_swaps_by_hand() -> None:
    """One row: 2 short; the steadiest grows, and the smallest that helps is pruned."""
    weight = torch.tensor([[1.0, 1.0, 3.0, -0.5, -0.4, 0.1]])
    sparse = torch.tensor([[0.0, 0.0, 3.0, -0.5, -0.4, 0.1]])
    mean, variance = torch.ones(6), torch.tensor([2.0, 1.0, 1.0, 1.0, 9.0, 1.0])
    statistics = MatrixStatistics(
        tokens=100, values={"input_mean": mean, "input_second_moment": variance + 1}
    )
    refined = DSnoT().refined(sparse, weight, SparsityPattern.parse("33%"), statistics)
    # ε = 2; the second grows (variance 1) and −0.5 goes (0.5 · √2 < 0.4 · √10): ε = 0.5; the first
    # would take off more than is left, and −0.5 would add to ε: nothing else
    assert refined.tolist() == [[0.0, 1.0, 3.0, 0.0, pytest.approx(-0.4), pytest.approx(0.1)]]


def test_dsnot_swaps_once_a_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsnot, "_CYCLES", 1)
    weight, statistics = problem()
    sparse = make_sparsifier("magnitude").sparsified(weight, PATTERNS[0], statistics)
    refined = DSnoT().refined(sparse, weight, PATTERNS[0], statistics)
    swapped = set((refined != sparse).sum(dim=1).tolist())
    assert swapped in ({2}, {0, 2})


def test_dsnot_does_nothing_where_inputs_have_no_mean() -> None:
    weight, statistics = problem()
    still = MatrixStatistics(
        tokens=2000,
        values={**statistics.values, "input_mean": torch.zeros(64)},
    )
    sparse = make_sparsifier("wanda").sparsified(weight, PATTERNS[0], statistics)
    assert torch.equal(DSnoT().refined(sparse, weight, PATTERNS[0], still), sparse)
