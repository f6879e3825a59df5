"""Clusters of given sizes, as good as an exhaustive solver makes them."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from search_spaces.moefication.clustering import assign_exactly, cluster_evenly


@pytest.mark.parametrize(("items", "sizes"), [(6, [2, 2, 2]), (40, [4, 30, 6]), (90, [9] * 10)])
@pytest.mark.parametrize("seed", range(4))
def test_assignment_is_as_good_as_one_to_single_places(
    items: int, sizes: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    gains = rng.random((items, len(sizes)))
    gains[:, -1] += seed % 2  # a cluster that all would rather be in
    clusters = assign_exactly(gains, np.array(sizes))
    places = np.repeat(np.arange(len(sizes)), sizes)
    rows, columns = linear_sum_assignment(gains[:, places], maximize=True)
    assert np.bincount(clusters).tolist() == sizes
    assert gains[np.arange(items), clusters].sum() == pytest.approx(
        gains[rows, places[columns]].sum(), rel=1e-9
    )


def test_items_that_are_all_alike_are_shared_out_all_the_same() -> None:
    clusters = assign_exactly(np.ones((12, 3)), np.array([3, 4, 5]))
    assert np.bincount(clusters).tolist() == [3, 4, 5]


def test_gains_of_nothing_are_shared_out_too() -> None:
    assert np.bincount(assign_exactly(np.zeros((4, 2)), np.array([2, 2]))).tolist() == [2, 2]


def test_groups_that_lie_apart_are_found() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 5)
    points = 10.0 * np.eye(4)[truth] + 0.1 * rng.standard_normal((20, 4))
    shuffled = rng.permutation(20)
    found = cluster_evenly(points[shuffled], 4, rng)
    for group in range(4):
        assert len(set(found[truth[shuffled] == group])) == 1


def test_clusters_are_equal_where_points_are_not() -> None:
    points = np.random.default_rng(1).exponential(size=(24, 3))
    found = cluster_evenly(points, 6, np.random.default_rng(0))
    assert np.bincount(found).tolist() == [4] * 6


def test_points_that_are_one_point_are_shared_out() -> None:
    found = cluster_evenly(np.ones((8, 2)), 4, np.random.default_rng(0))
    assert np.bincount(found).tolist() == [2] * 4


def test_the_same_seed_gives_the_same_clusters() -> None:
    points = np.random.default_rng(1).random((24, 3))
    first, second = (cluster_evenly(points, 6, np.random.default_rng(3)) for _ in range(2))
    assert first.tolist() == second.tolist()
