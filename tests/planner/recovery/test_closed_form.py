"""Ridge updates are the solutions of the least squares that they say they solve."""

import pytest
import torch

from planner.recovery.closed_form import RIDGES, Sums, first_tokens_held, ridge_update


def _tokens(columns: int = 12, rows: int = 5) -> tuple[torch.Tensor, torch.Tensor, Sums]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, columns, generator=generator) @ torch.randn(
        columns, columns, generator=generator
    )
    missing = torch.randn(200, rows, generator=generator)
    sums = Sums.of(torch.zeros(rows, columns))
    for part in (slice(0, 130), slice(130, 200)):
        sums.add(inputs[part], missing[part])
    return inputs.double(), missing.double(), sums


def _solved(inputs: torch.Tensor, missing: torch.Tensor, ridge: float) -> torch.Tensor:
    """Solve the same as least squares with a row for each weight that the ridge pulls."""
    columns = inputs.shape[1]
    pull = ridge**0.5 * torch.eye(columns, dtype=torch.float64)
    left = torch.cat([inputs, pull])
    right = torch.cat([missing, torch.zeros(columns, missing.shape[1], dtype=torch.float64)])
    solution: torch.Tensor = torch.linalg.lstsq(left, right).solution
    return solution.T


def test_a_dense_matrix_is_solved_by_ridge_regression() -> None:
    inputs, missing, sums = _tokens()
    assert sums.tokens == 200
    ridge = RIDGES[0] * float((inputs**2).sum(dim=0).mean())
    update = ridge_update(sums)
    assert update is not None
    # sums in float32
    torch.testing.assert_close(
        update.double(), _solved(inputs, missing, ridge), rtol=1e-3, atol=1e-4
    )


def test_each_row_of_a_sparse_matrix_is_solved_on_its_own_support() -> None:
    inputs, missing, sums = _tokens()
    mask = torch.rand(5, 12, generator=torch.Generator().manual_seed(1)) < 0.5
    ridge = RIDGES[0] * float((inputs**2).sum(dim=0).mean())
    update = ridge_update(sums, mask)
    assert update is not None
    assert not update[~mask].any()
    for row, kept in enumerate(mask):
        expected = _solved(inputs[:, kept], missing[:, row : row + 1], ridge)[0]
        torch.testing.assert_close(update[row, kept].double(), expected, rtol=1e-3, atol=1e-4)


def test_what_first_tokens_give_stays_and_they_do_not_decide() -> None:
    inputs, missing, _ = _tokens()
    inputs, missing = inputs.float().reshape(10, 20, -1), missing.float().reshape(10, 20, -1)
    is_first = torch.arange(20).expand(10, 20) < 1
    inputs[is_first] = 500 * inputs[0, 0]
    left_out, held, whole = (Sums.of(torch.zeros(5, 12)) for _ in range(3))
    left_out.add(inputs[~is_first], missing[~is_first])
    held.add(*first_tokens_held(inputs, missing, is_first))
    whole.add(inputs.flatten(0, 1), (missing * ~is_first[..., None]).flatten(0, 1))
    assert held.tokens == 200
    without, update, deciding = map(ridge_update, (left_out, held, whole))
    assert without is not None
    assert update is not None
    assert deciding is not None
    first = inputs[0, 0]
    assert (update @ first).norm() < 0.8 * (without @ first).norm()
    # at their own size others would hardly count
    assert left_out.change_by(update) < 10 * left_out.change_by(deciding) < 0
    lacking, nothing = first_tokens_held(inputs[:, :1], missing[:, :1], is_first[:, :1])
    assert not len(lacking)
    assert not len(nothing)


def test_what_others_read_pulls_a_matrix_that_reads_little() -> None:
    _, _, sums = _tokens()
    alone, held = ridge_update(sums), ridge_update(sums, energy=100 * sums.energy)
    assert alone is not None
    assert held is not None
    assert held.norm() < alone.norm()


def test_inputs_that_say_nothing_change_nothing() -> None:
    sums = Sums.of(torch.zeros(3, 4))
    assert ridge_update(sums) is None
    sums.add(torch.ones(2, 4), torch.full((2, 3), torch.inf))
    assert ridge_update(sums) is None


def test_text_apart_chooses_the_ridge_or_refuses_any_change() -> None:
    inputs, missing, sums = _tokens()
    update = ridge_update(sums)
    assert update is not None
    apart = Sums.of(torch.zeros(5, 12))
    apart.add(inputs[:80].float(), missing[:80].float())
    before = missing[:80].square().sum()
    after = (missing[:80] - inputs[:80] @ update.double().T).square().sum()
    assert apart.change_by(update) == pytest.approx(float(after - before), rel=1e-3)
    chosen = ridge_update(sums, apart=apart)
    assert chosen is not None
    changes = [
        apart.change_by(_solved(inputs, missing, ridge * sums.energy).float()) for ridge in RIDGES
    ]
    assert apart.change_by(chosen) == pytest.approx(min(changes), rel=1e-3)
    other = Sums.of(torch.zeros(5, 12))
    other.add(inputs[:80].float(), -(inputs[:80] @ update.double().T).float())
    assert ridge_update(sums, apart=other) is None
