"""OWL's shares: which way they point, what they add up to, how far they go."""

import numpy as np
import pytest
import torch
from torch import Tensor

from search_spaces.priors.owl import owl_shares
from search_spaces.statistics import Statistics


def components(
    outlier_counts: list[int], rows: list[int] | None = None
) -> tuple[list[dict[str, Tensor]], list[Statistics]]:
    """Return components whose products are all 1 but for some that are 100, ``(rows, 100)``."""
    weights: list[dict[str, Tensor]] = []
    statistics: list[Statistics] = []
    for count, height in zip(outlier_counts, rows or [1] * len(outlier_counts), strict=True):
        weight = torch.ones(height, 100)
        weight[:, :count] = -100.0
        second = torch.ones(100)
        # products count and not weights: half of the size moves to the inputs
        weight[:, ::2] /= 4.0
        second[::2] *= 16.0
        weights.append({"a": weight[:, :60].contiguous(), "b": weight[:, 60:].contiguous()})
        statistics.append(
            {
                ("input_second_moment", "a"): second[:60],
                ("input_second_moment", "b"): second[60:],
            }
        )
    return weights, statistics


def test_shares_by_hand() -> None:
    # outliers 0 %, 1 %, 2 %: a range of 0.16 about the mean
    assert owl_shares(*components([0, 1, 2])) == pytest.approx([-0.08, 0.0, 0.08])
    assert owl_shares(*components([0, 1, 2]), bound=0.2) == pytest.approx([-0.2, 0.0, 0.2])


def test_shares_stay_within_the_bound_though_the_mean_is_not_midway() -> None:
    # 0.16 · (0, 0, 0, 1) − 0.04 would reach 0.12
    shares = owl_shares(*components([0, 0, 0, 2]))
    assert shares == pytest.approx(np.array([-1, -1, -1, 3]) * 0.08 / 3)


@pytest.mark.parametrize("counts", [[0, 3, 1, 2], [5, 0, 0, 1], [2, 2, 2, 9]])
def test_the_mean_weighted_by_size_is_zero(counts: list[int]) -> None:
    rows = [1, 2, 3, 10]
    shares = owl_shares(*components(counts, rows))
    assert np.average(shares, weights=rows) == pytest.approx(0.0, abs=1e-12)
    assert np.abs(shares).max() <= 0.08 + 1e-12
    assert np.array_equal(np.argsort(shares, kind="stable"), np.argsort(counts, kind="stable"))


def test_the_multiple_says_what_an_outlier_is() -> None:
    weights = [{"a": torch.tensor([[1.0, 1.0, 1.0, 4.0]])}, {"a": torch.ones(1, 4)}]
    statistics: list[Statistics] = [{("input_second_moment", "a"): torch.ones(4)}] * 2
    assert owl_shares(weights, statistics, multiple=2.0) == pytest.approx([0.08, -0.08])
    assert owl_shares(weights, statistics, multiple=3.0) == pytest.approx([0.0, 0.0])


def test_equal_components_share_alike() -> None:
    assert owl_shares(*components([2, 2, 2])).tolist() == [0.0, 0.0, 0.0]
