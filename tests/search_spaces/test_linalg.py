"""Damped factors: what is added, how often it is raised, and when there is none."""

import pytest
import torch
from torch import Tensor

from search_spaces.linalg import DAMPING, damped_cholesky, damped_factor, leading_solutions


def indefinite(least: float) -> Tensor:
    """Return a matrix ``(8, 8)`` of mean diagonal 1 whose least eigenvalue is known."""
    generator = torch.Generator().manual_seed(0)
    rotation: Tensor = torch.linalg.qr(torch.randn(8, 8, generator=generator).double())[0]
    values = torch.full((8,), (8 - least) / 7, dtype=torch.float64)
    values[0] = least
    return (rotation * values) @ rotation.T


@pytest.mark.parametrize(("least", "raises"), [(0.1, 0), (-0.05, 1), (-0.5, 2), (-5.0, 3)])
def test_damping_is_made_ten_times_larger_until_the_sum_is_definite(
    least: float, raises: int
) -> None:
    gram = indefinite(least)
    before = gram.clone()
    factor = damped_factor(gram, DAMPING, 1.0, raises=3)
    assert factor is not None
    assert factor.raises == raises
    assert factor.damping == pytest.approx(DAMPING * 10**raises)
    damped = gram + factor.damping * torch.eye(8, dtype=torch.float64)
    torch.testing.assert_close(factor.lower @ factor.lower.T, damped)
    assert torch.equal(gram, before)
    assert damped_factor(gram, DAMPING, 1.0, raises=raises - 1) is None


def test_a_matrix_of_zeros_has_a_factor() -> None:
    factor = damped_factor(torch.zeros(3, 3, dtype=torch.float64), DAMPING, 0.0)
    assert factor is not None
    assert 0 < factor.damping < 1e-300


def test_numbers_that_are_not_finite_have_no_factor() -> None:
    gram = torch.eye(3, dtype=torch.float64)
    gram[1, 1] = torch.nan
    assert damped_factor(gram, DAMPING, 1.0, raises=3) is None


@pytest.mark.parametrize("share", [DAMPING, 0.1, 1.01])
@pytest.mark.parametrize("raises", range(4))
def test_percent_and_share_give_the_same_damping_bit_for_bit(share: float, raises: int) -> None:
    """Messages name percents: what they name is what was added."""
    assert share * 10**raises == 100 * share * 10**raises / 100 == share * (10**raises)


def test_an_input_that_is_always_zero_gets_the_mean_of_the_others() -> None:
    gram = torch.diag(torch.tensor([1.0, 0.0, 3.0]))
    lower = damped_cholesky(gram, 0.5, "this test")
    assert lower.diagonal().square().tolist() == pytest.approx([2.0, 3.0, 4.0])
    assert torch.equal(damped_cholesky(torch.zeros(2, 2), 0.5, "this test"), torch.eye(2).double())


@pytest.mark.parametrize("counts", [[7], [1, 2, 3], [3, 8, 20], [20]])
def test_leading_solutions_are_those_of_each_leading_block(counts: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    lower = torch.randn(20, 20, generator=generator, dtype=torch.float64).tril()
    lower.diagonal().abs_().add_(1.0)
    right = torch.randn(5, 20, generator=generator, dtype=torch.float64)
    before = lower.clone()
    widths = []
    for block, solution in leading_solutions(right, lower, counts):
        first = slice(block.stop)
        assert torch.allclose(solution @ lower[first, first], right[:, first], rtol=1e-10)
        widths.append(block.stop)
    assert widths == counts
    assert torch.equal(lower, before)


def test_a_matrix_comes_out_of_its_factorisation_as_it_went_in() -> None:
    gram = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)  # never definite below 1
    before = gram.clone()
    assert damped_factor(gram, 0.01, 1.0) is None
    assert damped_factor(gram, 2.0, 1.0) is not None
    assert torch.equal(gram, before)
