"""Wanda and SparseGPT against the published algorithms, written down literally."""

import pytest
import torch
from torch import Tensor

from search_spaces.pruned_weights.sparsifiers import make_sparsifier
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics
from tests.models.references import sparsegpt_reference, wanda_reference

PATTERNS = tuple(map(SparsityPattern.parse, ("10%", "50%", "77%", "2:4", "4:8", "1:4")))


def problem(columns: int, tokens: int = 2000) -> tuple[Tensor, MatrixStatistics]:
    rng = torch.Generator().manual_seed(columns)
    shared = torch.randn(tokens, 20, generator=rng) @ torch.randn(20, columns, generator=rng)
    inputs = (0.3 * shared + torch.randn(tokens, columns, generator=rng)) * torch.rand(
        columns, generator=rng
    )
    values = {"gram": inputs.T @ inputs / tokens, "input_second_moment": inputs.square().mean(0)}
    weight = torch.randn(40, columns, generator=rng)
    return weight, MatrixStatistics(tokens=tokens, values=values)  # type: ignore[arg-type]


@pytest.mark.parametrize("columns", [64, 128, 344])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_wanda_is_the_published_one(pattern: SparsityPattern, columns: int) -> None:
    weight, statistics = problem(columns)
    ours = make_sparsifier("wanda").sparsified(weight, pattern, statistics)
    assert torch.equal(ours, wanda_reference(weight, statistics["input_second_moment"], pattern))


@pytest.mark.parametrize(
    "tokens", [2000, 100]
)  # fewer than columns: only damping makes it regular
@pytest.mark.parametrize("columns", [64, 128, 344])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_sparsegpt_is_the_published_one(
    pattern: SparsityPattern, columns: int, tokens: int
) -> None:
    weight, statistics = problem(columns, tokens)
    ours = make_sparsifier("sparsegpt").sparsified(weight, pattern, statistics)
    theirs = sparsegpt_reference(weight, statistics["gram"], pattern)
    assert torch.equal(ours == 0, theirs == 0)
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=0)  # float32 against float64


def test_sparsegpt_and_the_published_one_agree_on_dead_inputs() -> None:
    weight, statistics = problem(344)
    gram, dead = statistics["gram"].clone(), [0, 5, 130, 343]
    gram[dead], gram[:, dead] = 0.0, 0.0
    pattern = SparsityPattern.parse("50%")
    ours = make_sparsifier("sparsegpt").sparsified(
        weight, pattern, MatrixStatistics(tokens=2000, values={"gram": gram})
    )
    assert torch.allclose(ours, sparsegpt_reference(weight, gram, pattern), atol=1e-4, rtol=0)


def test_the_reference_solves_what_it_claims_to() -> None:
    """With one block and the whole mask known, no update of what is left lowers the error."""
    weight, statistics = problem(8)
    norms = statistics["gram"].diagonal().sqrt()
    gram = statistics["gram"] / norms / norms[:, None]
    # the first columns go, all of them: then the others are what least squares gives
    weight[:, :4], weight[:, 4:] = 0.1 * weight[:, :4], weight[:, 4:].sign() + weight[:, 4:]
    pruned = sparsegpt_reference(weight, gram, SparsityPattern.parse("50%"))
    assert bool((pruned[:, :4] == 0).all())
    damped = gram.double() + 0.01 * torch.eye(8)
    exact = torch.linalg.solve(damped[4:, 4:], damped[4:] @ weight.double().T).T
    assert torch.allclose(pruned[:, 4:].double(), exact, atol=1e-5)  # the gram is float32
    assert not torch.allclose(pruned[:, 4:], weight[:, 4:], atol=1e-2)
