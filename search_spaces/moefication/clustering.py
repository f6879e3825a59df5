"""Channels in clusters of given sizes."""

import itertools

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8
"""Of Lloyd's algorithm; what it has not found by then, the exact assignment mends."""
_PRICE_STEPS = 100
_ROUNDING = 1e-12
"""Of the largest gain: less than this is no difference."""


def assign_exactly(gains: NDArray[np.float64], sizes: NDArray[np.int_]) -> NDArray[np.int_]:
    """Give each item to a cluster so that the sum of gains is as large as the sizes allow.

    A transportation problem by successive shortest paths (Ahuja, Magnanti and Orlin, Network
    Flows, 1993, chapter 9). Where each item takes the cluster of the highest gain less its price,
    no exchange betters the sum, whatever the sizes that come out; from there one item after
    another leaves clusters that are too full, by the chain of moves that costs least. For 1,536
    items and 65 clusters it takes a twentieth of the time of an assignment to single places.

    Args:
        gains: Of each item in each cluster, ``(items, clusters)``.
        sizes: Items of each cluster, ``(clusters,)``; they sum to the number of items.

    Returns:
        The cluster of each item, ``(items,)``.
    """
    clusters = (gains - _prices(gains, sizes)).argmax(axis=1)
    counts = np.bincount(clusters, minlength=len(sizes))
    moves = _Moves(gains, clusters)
    while (counts > sizes).any():
        path = moves.cheapest_path(counts > sizes, counts < sizes)
        moves.follow_(path)
        counts[path[0]] -= 1
        counts[path[-1]] += 1
    return moves.clusters


def _prices(gains: NDArray[np.float64], sizes: NDArray[np.int_]) -> NDArray[np.float64]:
    """Guess a price of each cluster at which about as many items as it holds want it."""
    prices = np.zeros(len(sizes))
    step = float(np.ptp(gains, axis=1).mean())
    for _ in range(_PRICE_STEPS):
        wanted = np.bincount((gains - prices).argmax(axis=1), minlength=len(sizes))
        prices += step * np.clip(wanted / sizes - 1.0, -1.0, 1.0)
        step *= 0.95
    return prices


class _Moves:
    """The cheapest move of an item between any two clusters.

    Args:
        gains: ``(items, clusters)``.
        clusters: Of each item, ``(items,)``.
    """

    def __init__(self, gains: NDArray[np.float64], clusters: NDArray[np.int_]) -> None:
        self.clusters = clusters
        self._gains = gains
        count = gains.shape[1]
        self._losses = np.full((count, count), np.inf)
        self._movers = np.zeros((count, count), dtype=np.int_)
        self._tolerance = _ROUNDING * float(np.abs(gains).max())
        for cluster in range(count):
            self._look_at_(cluster)

    def _look_at_(self, cluster: int) -> None:
        """Find who leaves a cluster for each other one at the least loss."""
        members = np.flatnonzero(self.clusters == cluster)
        if not len(members):
            self._losses[cluster] = np.inf
            return
        losses = self._gains[members, cluster][:, None] - self._gains[members]
        first = losses.argmin(axis=0)
        self._losses[cluster] = losses[first, np.arange(losses.shape[1])]
        self._movers[cluster] = members[first]

    def cheapest_path(self, full: NDArray[np.bool_], free: NDArray[np.bool_]) -> list[int]:
        """Give the clusters from a full one to a free one between which moving loses least."""
        losses = np.where(full, 0.0, np.inf)
        before = np.full(len(full), -1)
        for _ in range(len(full)):  # Bellman and Ford, who allow moves that gain
            through = losses[:, None] + self._losses
            best = through.argmin(axis=0)
            found = through[best, np.arange(len(full))]
            better = found < losses - self._tolerance
            if not better.any():
                break
            losses = np.where(better, found, losses)
            before = np.where(better, best, before)
        path = [int(np.where(free, losses, np.inf).argmin())]
        while before[path[-1]] >= 0:
            path.append(int(before[path[-1]]))
        return path[::-1]

    def follow_(self, path: list[int]) -> None:
        """Move one item along each step of a path."""
        movers = [self._movers[here, there] for here, there in itertools.pairwise(path)]
        self.clusters[movers] = path[1:]
        for cluster in path:
            self._look_at_(cluster)


def cluster_evenly(
    points: NDArray[np.float64], count: int, rng: np.random.Generator
) -> NDArray[np.int_]:
    """Cluster points around means, as many in each cluster.

    k-means++ (Arthur and Vassilvitskii, 2007) and a few rounds of Lloyd's algorithm choose the
    means, and an exact assignment to them makes the clusters equal.

    Args:
        points: ``(points, features)``; their number is a multiple of `count`.
        count: Of clusters.
        rng: Picks the first means.

    Returns:
        The cluster of each point, ``(points,)``.
    """
    means = _spread(points, count, rng)
    for _ in range(_ROUNDS):
        nearest = _closeness(points, means).argmax(axis=1)
        for cluster in np.unique(nearest):
            means[cluster] = points[nearest == cluster].mean(axis=0)
    sizes = np.full(count, len(points) // count)
    return assign_exactly(_closeness(points, means), sizes)


def _spread(
    points: NDArray[np.float64], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Choose points as first means, each with odds by its squared distance from those before."""
    chosen = [int(rng.integers(len(points)))]
    apart = np.full(len(points), np.inf)
    for _ in range(count - 1):
        apart = np.minimum(apart, np.square(points - points[chosen[-1]]).sum(axis=1))
        total = apart.sum()
        odds = apart / total if total > 0 else None  # all the same: any will do
        chosen.append(int(rng.choice(len(points), p=odds)))
    return points[chosen].copy()


def _closeness(points: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give minus the squared distance, but for what is the same for all means of a point."""
    closeness: NDArray[np.float64] = 2 * points @ means.T - np.square(means).sum(axis=1)
    return closeness
