"""LAMP and global magnitude: greedy search over sensitivities finds one global threshold."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.errors import SettingsError
from search_spaces.priors import global_magnitude, lamp
from search_spaces.space.sparsity import SparsityPattern

PATTERNS = [SparsityPattern(percent=percent) for percent in range(100)]
Sensitivities = Callable[..., NDArray[np.float64]]


def matrices() -> list[dict[str, Tensor]]:
    """Return components of one matrix ``(1, 100)`` each, so that each percent is one weight."""
    rng = torch.Generator().manual_seed(0)
    spreads = (0.2, 1.0, 1.0, 5.0)
    return [
        {"weight": torch.randn(1, 100, generator=rng).abs().pow(2 * power) * spread + 0.01}
        for power, spread in enumerate(spreads, 1)
    ]


def greedy(
    sensitivities: Sensitivities, components: list[dict[str, Tensor]], budget: int
) -> list[int]:
    """Take the step of least sensitivity for each weight until so many weights are zero."""
    tables = [sensitivities(component, PATTERNS) for component in components]
    counts = [0] * len(components)
    for _ in range(budget):
        steps = [
            table[count + 1] - table[count] if count + 1 < len(table) else np.inf
            for table, count in zip(tables, counts, strict=True)
        ]
        counts[int(np.argmin(steps))] += 1
    return counts


def brute_force(scores: list[list[float]], budget: int) -> list[int]:
    """Sort all weights of all matrices by score and count whose the lowest are."""
    owners = sorted((score, component) for component, row in enumerate(scores) for score in row)
    gone = [component for _, component in owners[:budget]]
    return [gone.count(component) for component in range(len(scores))]


@pytest.mark.parametrize("budget", [1, 50, 130, 200, 300])
def test_lamp_is_one_threshold(budget: int) -> None:
    components, scores = matrices(), []
    for component in components:
        squares = sorted(float(value) ** 2 for value in component["weight"][0].double())
        scores.append([square / sum(squares[at:]) for at, square in enumerate(squares)])
    assert greedy(lamp.pattern_sensitivities, components, budget) == brute_force(scores, budget)


@pytest.mark.parametrize("budget", [1, 50, 130, 200])
def test_global_magnitude_is_one_threshold(budget: int) -> None:
    components = matrices()
    sizes = [sorted(map(float, component["weight"][0])) for component in components]

    def sensitivities(
        component: dict[str, Tensor], patterns: list[SparsityPattern]
    ) -> NDArray[np.float64]:
        return global_magnitude.pattern_sensitivities(component, patterns, floor=0.0)

    assert greedy(sensitivities, components, budget) == brute_force(sizes, budget)


def test_no_matrix_falls_below_the_floor_while_another_has_weights_above() -> None:
    tiny, large = {"weight": torch.full((1, 100), 0.01)}, {"weight": torch.full((1, 100), 10.0)}

    def sensitivities(
        component: dict[str, Tensor], patterns: list[SparsityPattern]
    ) -> NDArray[np.float64]:
        return global_magnitude.pattern_sensitivities(component, patterns, floor=0.25)

    assert greedy(sensitivities, [tiny, large], 75) == [75, 0]
    assert greedy(sensitivities, [tiny, large], 100) == [75, 25]
    assert greedy(sensitivities, [tiny, large], 150) == [75, 75]


@pytest.mark.parametrize("module", [lamp, global_magnitude])
def test_sensitivities_rise_with_zeros_and_add_up_over_matrices(module: object) -> None:
    sensitivities: Sensitivities = module.pattern_sensitivities  # type: ignore[attr-defined]
    rng = torch.Generator().manual_seed(1)
    one, other = torch.randn(6, 40, generator=rng), torch.randn(9, 16, generator=rng)
    both = sensitivities({"one": one, "other": other}, PATTERNS)
    assert both[0] == 0.0
    assert bool((np.diff(both) >= 0).all())
    apart = sensitivities({"one": one}, PATTERNS) + sensitivities({"other": other}, PATTERNS)
    assert both == pytest.approx(apart)


@pytest.mark.parametrize("module", [lamp, global_magnitude])
def test_groups_take_the_scores_of_their_own_lowest(module: object) -> None:
    sensitivities: Sensitivities = module.pattern_sensitivities  # type: ignore[attr-defined]
    weight = torch.tensor([[4.0, 3.0, 2.0, 1.0, 8.0, 7.0, 6.0, 5.0]])
    scores = [float(size) for size in range(1, 9)]
    if module is lamp:
        squares = [size**2 for size in scores]
        scores = [square / sum(squares[at:]) for at, square in enumerate(squares)]
    found = sensitivities(
        {"weight": weight}, [SparsityPattern.parse("2:4"), SparsityPattern.parse("50%")]
    )
    assert found == pytest.approx(
        [sum(scores[size - 1] for size in (1, 2, 5, 6)), sum(scores[:4])]
    )
    with pytest.raises(SettingsError, match=r"1:3 needs .*`weight` has 8"):
        sensitivities({"weight": weight}, [SparsityPattern.parse("1:3")])


def test_weights_that_are_zero_have_no_sensitivity() -> None:
    zeros = {"weight": torch.zeros(2, 10)}
    assert not lamp.pattern_sensitivities(zeros, PATTERNS).any()
    assert not global_magnitude.pattern_sensitivities(zeros, PATTERNS, floor=0.0).any()
