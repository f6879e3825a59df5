"""What every sparsifier and refinement must keep to; a new one adds its name and is held."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from search_spaces.errors import DataError, SettingsError
from search_spaces.pruned_weights.refinements import RefinementName, make_refinement
from search_spaces.pruned_weights.refinements.protocol import Refinement
from search_spaces.pruned_weights.sparsifiers import SparsifierName, make_sparsifier
from search_spaces.pruned_weights.sparsifiers.protocol import Sparsifier
from search_spaces.space.sparsity import DENSE, SparsityPattern
from search_spaces.statistics import MatrixStatistics

NAMES: tuple[SparsifierName, ...] = get_args(SparsifierName)
REFINEMENTS: tuple[RefinementName, ...] = get_args(RefinementName)
INFORMED = tuple(name for name in NAMES if make_sparsifier(name).statistics)
PATTERNS = tuple(
    map(SparsityPattern.parse, ("0%", "1%", "37%", "50%", "90%", "99%", "2:4", "4:8", "1:3"))
)
ROWS, COLUMNS, TOKENS = 24, 168, 1024  # more than a block of 128 columns, a multiple of 3 and 8


def problem(columns: int = COLUMNS, dead: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """Return a matrix ``(rows, columns)`` and inputs of uneven size that go together."""
    rng = torch.Generator().manual_seed(0)
    mixing = torch.randn(columns, columns, generator=rng) / columns**0.5
    inputs = torch.randn(TOKENS, columns, generator=rng) @ (torch.eye(columns) + mixing)
    inputs = (inputs + 0.3) * torch.rand(columns, generator=rng).exp().square()
    inputs[:, list(dead)] = 0.0
    return torch.randn(ROWS, columns, generator=rng), inputs


def measured(weight: Tensor, inputs: Tensor) -> MatrixStatistics:
    """Measure inputs, with gradients of the loss ``‖x Wᵀ‖²`` over windows of 32 tokens."""
    windows = inputs.view(32, -1, inputs.shape[1])
    gradients = torch.einsum("wtr,wtc->wrc", windows @ weight.T, windows) / windows.shape[1]
    return MatrixStatistics(
        tokens=len(inputs),
        values={
            "input_mean": inputs.mean(dim=0),
            "input_magnitude": inputs.abs().mean(dim=0),
            "input_second_moment": inputs.square().mean(dim=0),
            "gram": inputs.T @ inputs / len(inputs),
            "gradient": gradients.mean(dim=0),
            "gradient_second_moment": gradients.square().mean(dim=0),
        },
    )


def error(weight: Tensor, sparse: Tensor, inputs: Tensor) -> float:
    return float(((weight - sparse) @ inputs.T).square().mean())


def declared(method: Sparsifier | Refinement, full: MatrixStatistics) -> MatrixStatistics:
    values = {name: full[name] for name in method.statistics}
    return MatrixStatistics(tokens=full.tokens, values=values)


def assert_fits(sparse: Tensor, pattern: SparsityPattern) -> None:
    rows, columns = sparse.shape
    zeros = sparse == 0
    assert int(zeros.sum()) == pattern.zeros(rows, columns)
    if pattern.group:
        by_group = zeros.view(rows, -1, pattern.group).sum(dim=2)
        assert bool((by_group == pattern.group - pattern.keep).all())
    assert bool(torch.isfinite(sparse).all())


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_pattern_holds_exactly(name: SparsifierName, pattern: SparsityPattern) -> None:
    weight, inputs = problem()
    before = weight.clone()
    statistics = measured(weight, inputs)
    sparse = make_sparsifier(name).sparsified(weight, pattern, statistics)
    assert_fits(sparse, pattern)
    assert torch.equal(weight, before)
    assert sparse.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_a_dense_pattern_changes_nothing_and_shares_nothing(name: SparsifierName) -> None:
    weight, inputs = problem()
    dense = make_sparsifier(name).sparsified(weight, DENSE, measured(weight, inputs))
    assert torch.equal(dense, weight)
    assert dense.data_ptr() != weight.data_ptr()


@pytest.mark.parametrize("pattern", PATTERNS[3:5] + PATTERNS[6:8], ids=str)
@pytest.mark.parametrize("name", INFORMED)
def test_what_is_measured_beats_chance(name: SparsifierName, pattern: SparsityPattern) -> None:
    weight, inputs = problem()
    statistics = measured(weight, inputs)
    errors = [
        error(weight, make_sparsifier(each).sparsified(weight, pattern, statistics), inputs)
        for each in (name, "random")
    ]
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_matrix_gives_the_same_zeros(name: SparsifierName) -> None:
    weight, inputs = problem()
    sparsifier, pattern = make_sparsifier(name), SparsityPattern.parse("50%")
    first = sparsifier.sparsified(weight, pattern, measured(weight, inputs))
    sparsifier.sparsified(weight, SparsityPattern.parse("2:4"), measured(weight, 2 * inputs))
    again = sparsifier.sparsified(weight, pattern, measured(weight, inputs))
    afresh = make_sparsifier(name).sparsified(weight, pattern, measured(weight, inputs))
    assert torch.equal(first, again)
    assert torch.equal(first, afresh)


@pytest.mark.parametrize("name", NAMES)
def test_only_declared_statistics_are_asked_for(name: SparsifierName) -> None:
    weight, inputs = problem()
    sparsifier, full = make_sparsifier(name), measured(weight, inputs)
    few = declared(sparsifier, full)
    pattern = SparsityPattern.parse("50%")
    assert torch.equal(
        sparsifier.sparsified(weight, pattern, few), sparsifier.sparsified(weight, pattern, full)
    )


@pytest.mark.parametrize("name", NAMES)
def test_groups_that_do_not_fit_are_refused(name: SparsifierName) -> None:
    weight, inputs = problem(columns=90)
    with pytest.raises(SettingsError, match=r"2:4 needs rows of a multiple of 4 .* has 90"):
        make_sparsifier(name).sparsified(
            weight, SparsityPattern.parse("2:4"), measured(weight, inputs)
        )


@pytest.mark.parametrize("pattern", PATTERNS[3:8], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_breaks_on_a_matrix_of_zeros(
    name: SparsifierName, pattern: SparsityPattern
) -> None:
    weight, inputs = problem()
    zeros = torch.zeros_like(weight)
    sparse = make_sparsifier(name).sparsified(zeros, pattern, measured(zeros, inputs))
    assert torch.equal(sparse, zeros)


@pytest.mark.parametrize("pattern", PATTERNS[3:8], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_equal_weights_leave_exact_counts(name: SparsifierName, pattern: SparsityPattern) -> None:
    ones = torch.ones(ROWS, COLUMNS)
    values = measured(ones, torch.ones(TOKENS, COLUMNS))
    if name == "sparsegpt":  # equal inputs would make up for all of each other
        values = MatrixStatistics(tokens=TOKENS, values={"gram": torch.eye(COLUMNS)})
    assert_fits(make_sparsifier(name).sparsified(ones, pattern, values), pattern)


@pytest.mark.parametrize("pattern", PATTERNS[3:8], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_dead_inputs_break_nothing(name: SparsifierName, pattern: SparsityPattern) -> None:
    weight, inputs = problem(dead=(0, 3, 4, 5, 6, 7, 167))
    sparse = make_sparsifier(name).sparsified(weight, pattern, measured(weight, inputs))
    assert_fits(sparse, pattern)


@pytest.mark.parametrize("name", ["wanda", "gblm", "sparsegpt"])
def test_dead_inputs_are_pruned_first(name: SparsifierName) -> None:
    dead = (0, 3, 4, 167)
    weight, inputs = problem(dead=dead)
    weight[:, list(dead)] *= 100.0
    sparse = make_sparsifier(name).sparsified(
        weight, SparsityPattern.parse("50%"), measured(weight, inputs)
    )
    assert not sparse[:, list(dead)].any()


@pytest.mark.parametrize("name", NAMES)
def test_all_inputs_may_be_dead(name: SparsifierName) -> None:
    weight, inputs = problem(dead=tuple(range(COLUMNS)))
    pattern = SparsityPattern.parse("50%")
    sparse = make_sparsifier(name).sparsified(weight, pattern, measured(weight, inputs))
    assert_fits(sparse, pattern)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_gives_its_own_zeros(seed: int) -> None:
    weight, inputs = problem()
    statistics, pattern = measured(weight, inputs), SparsityPattern.parse("50%")
    one = make_sparsifier("random", seed=0).sparsified(weight, pattern, statistics)
    other = make_sparsifier("random", seed=seed).sparsified(weight, pattern, statistics)
    assert torch.equal(one, other) == (seed == 0)


@pytest.mark.parametrize("pattern", PATTERNS[2:], ids=str)
@pytest.mark.parametrize("maker", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("name", REFINEMENTS)
def test_a_refinement_keeps_the_pattern(
    name: RefinementName, maker: SparsifierName, pattern: SparsityPattern
) -> None:
    weight, inputs = problem()
    statistics = measured(weight, inputs)
    sparse = make_sparsifier(maker).sparsified(weight, pattern, statistics)
    before = sparse.clone()
    refined = make_refinement(name).refined(sparse, weight, pattern, statistics)
    assert_fits(refined, pattern)
    assert torch.equal(sparse, before)
    assert not torch.equal(refined, sparse)


@pytest.mark.parametrize("name", REFINEMENTS)
def test_a_refinement_lets_the_weights_of_dead_inputs_be(name: RefinementName) -> None:
    dead = [2, 50]
    weight, inputs = problem(dead=(2, 50))
    statistics, pattern = measured(weight, inputs), SparsityPattern.parse("50%")
    sparse = make_sparsifier("magnitude").sparsified(weight, pattern, statistics)
    refined = make_refinement(name).refined(sparse, weight, pattern, statistics)
    assert_fits(refined, pattern)
    assert torch.allclose(refined[:, dead], sparse[:, dead])


@pytest.mark.parametrize("name", REFINEMENTS)
def test_a_refinement_asks_only_for_what_it_declares(name: RefinementName) -> None:
    weight, inputs = problem()
    refinement, full = make_refinement(name), measured(weight, inputs)
    few = declared(refinement, full)
    pattern = SparsityPattern.parse("50%")
    sparse = make_sparsifier("magnitude").sparsified(weight, pattern, full)
    refined = [refinement.refined(sparse, weight, pattern, each) for each in (few, full)]
    assert torch.equal(*refined)


@pytest.mark.parametrize("name", REFINEMENTS)
def test_a_refinement_leaves_zeros_and_groups_that_do_not_fit(name: RefinementName) -> None:
    weight, inputs = problem(columns=90)
    zeros, statistics = torch.zeros_like(weight), measured(weight, inputs)
    pattern = SparsityPattern.parse("50%")
    refined = make_refinement(name).refined(zeros, zeros, pattern, statistics)
    assert torch.equal(refined, zeros)
    with pytest.raises(SettingsError, match="2:4 needs"):
        make_refinement(name).refined(zeros, weight, SparsityPattern.parse("2:4"), statistics)


def test_short_text_is_refused_by_what_needs_a_gram_matrix() -> None:
    weight, inputs = problem()
    statistics, pattern = measured(weight, inputs), SparsityPattern.parse("50%")
    short = MatrixStatistics(tokens=41, values=statistics.values)
    with pytest.raises(DataError, match=r"SparseGPT of 168 inputs needs at least 42 .* got 41"):
        make_sparsifier("sparsegpt").sparsified(weight, pattern, short)
    with pytest.raises(DataError, match="ADMM of 168 inputs needs at least 42"):
        make_refinement("admm").refined(weight, weight, pattern, short)
    make_sparsifier("wanda").sparsified(weight, pattern, short)
