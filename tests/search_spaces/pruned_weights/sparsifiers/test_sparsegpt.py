"""SparseGPT where the Gram matrix is difficult, and what it keeps between patterns."""

import pytest
import torch
from torch import Tensor

from search_spaces.errors import DataError
from search_spaces.pruned_weights.sparsifiers import make_sparsifier
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics

HALF = SparsityPattern.parse("50%")


def statistics(gram: Tensor, tokens: int = 10_000) -> MatrixStatistics:
    return MatrixStatistics(tokens=tokens, values={"gram": gram})


def indefinite(least: float) -> Tensor:
    """Return a matrix ``(32, 32)`` of mean diagonal 1 whose least eigenvalue is known."""
    rotation: Tensor = torch.linalg.qr(
        torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    )[0]
    values = torch.full((32,), (32 - least) / 31)
    values[0] = least
    return (rotation * values) @ rotation.T


@pytest.mark.parametrize(
    ("least", "said"),
    [(0.0, None), (-0.05, "10% of its mean diagonal was added instead of 1%"), (-0.5, "100%")],
)
def test_damping_is_raised_with_a_warning(
    least: float, said: str | None, notices: list[str]
) -> None:
    sparsifier = make_sparsifier("sparsegpt")
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
    sparse = sparsifier.sparsified(weight, HALF, statistics(indefinite(least)))
    assert int((sparse == 0).sum()) == 8 * 16
    assert bool(torch.isfinite(sparse).all())
    assert len(notices) == (said is not None)
    assert all(said in notice for notice in notices if said)


def test_beyond_the_bound_the_diagonal_is_used_alone(notices: list[str]) -> None:
    gram = torch.full((32, 32), -3.0).fill_diagonal_(1.0)
    gram.diagonal()[:] = torch.linspace(0.5, 1.5, 32)
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
    sparsifier = make_sparsifier("sparsegpt")
    sparse = sparsifier.sparsified(weight, HALF, statistics(gram))
    assert "its diagonal alone was used" in notices[0]
    kept = sparse != 0
    assert torch.equal(sparse[kept], weight[kept])
    # one block: the mask is that of |W|² (diagonal + damping), across all rows
    scores = weight.square() * (gram.diagonal() + 0.01)
    assert float(scores[~kept].max()) < float(scores[kept].min())


def test_inputs_that_are_not_finite_are_refused() -> None:
    gram = torch.eye(32)
    gram[0, 0] = torch.nan
    with pytest.raises(DataError, match="SparseGPT needs inputs that are finite"):
        make_sparsifier("sparsegpt").sparsified(torch.ones(2, 32), HALF, statistics(gram))


def test_the_factor_is_made_once_for_all_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    factorise = torch.linalg.cholesky_ex

    def counted(matrix: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(matrix))
        factor, info = factorise(matrix)
        return factor, info

    monkeypatch.setattr(torch.linalg, "cholesky_ex", counted)
    weight, gram = torch.randn(8, 32), torch.eye(32)
    sparsifier = make_sparsifier("sparsegpt")
    for pattern in map(SparsityPattern.parse, ("50%", "2:4", "70%")):
        sparsifier.sparsified(weight, pattern, statistics(gram))
    assert calls == [32]
    sparsifier.sparsified(weight, HALF, statistics(gram.clone()))
    assert calls == [32, 32]


def test_zeros_are_shared_out_evenly_over_the_blocks() -> None:
    weight = torch.randn(10, 300, generator=torch.Generator().manual_seed(1))
    weight[:, :128] *= 100.0
    gram = torch.eye(300)
    zeros = make_sparsifier("sparsegpt").sparsified(
        weight, SparsityPattern.parse("37%"), statistics(gram)
    )
    counts = [int((zeros[:, a:b] == 0).sum()) for a, b in ((0, 128), (128, 256), (256, 300))]
    assert counts == [10 * 47, 10 * (94 - 47), 10 * (111 - 94)]


def test_kept_weights_compensate_for_pruned_ones() -> None:
    """Two inputs that are one: the second takes over what the first did."""
    inputs = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0)).repeat(1, 2)
    gram = inputs.T @ inputs / 1000
    weight = torch.tensor([[1.0, 2.0]])
    sparse = make_sparsifier("sparsegpt").sparsified(
        weight, SparsityPattern.parse("1:2"), statistics(gram)
    )
    assert sparse.tolist()[0] == [0.0, pytest.approx(3.0, abs=0.02)]  # short by the damping
