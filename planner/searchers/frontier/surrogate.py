"""A Gaussian process of log KL over genomes: what every evaluation so far says of the others."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular

from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Floats, Genomes

MOST_FITTED = 700
"""Plans that are learned from: the work grows with their third power."""
_FEWEST = 3
LEAST_KL = 1e-5
"""Nats a token; below it a plan is as good as dense, and its logarithm says nothing."""
_TREND_VARIANCE = 100.0
_SHARES_LINEAR = (0.2, 0.5, 0.8, 0.95)
_LENGTHS = (0.7, 1.5, 3.0)
_NOISES = (1e-3, 1e-2, 5e-2, 0.2)
_FLOOR_NOISE = 0.05
_REFIT_GROWTH = 1.2
_LEAST_RANGE = 1e-6


@dataclass(frozen=True)
class _Fitted:
    features: Floats
    factor: Floats
    weights: Floats
    scale: float


@dataclass(frozen=True)
class _Kernel:
    """How alike two plans are taken to be."""

    linear_share: float
    """Of the variance: what sites do one by one; the rest is what they do together."""
    length: float
    """Distance, in sites that differ, over which plans do alike."""
    noise: float
    """Variance of a score on one part in two of the text, as a share of the plans' own."""


class Surrogate:
    """Kriging on a trend of additive harm.

    The logarithm of KL is a trend in the logarithm of the additive harm, plus a part linear in the
    sites, plus one in which neighbours do alike; each score weighs by the share of the text that
    it was measured on.

    Args:
        domain: Sites and levels.
        sensitivities: Tables of the single-site pass, for each site ``(levels,)``.

    References:
        Rasmussen & Williams, 2006, "Gaussian Processes for Machine Learning", sections 2.2, 2.7
        and 5.4.1.
    """

    def __init__(self, domain: Domain, sensitivities: tuple[Floats, ...]) -> None:
        self._harms = sensitivities
        self._coordinates = [
            _coordinate(table, int(top))
            for table, top in zip(sensitivities, domain.top_levels, strict=True)
        ]
        self._kernel: _Kernel | None = None
        self._chosen_at = 0
        self._fitted: _Fitted | None = None
        self._line: Floats = np.array([1.0, 0.0])

    def additive(self, genomes: Genomes) -> Floats:
        """Give the logarithm of the summed harm of single sites, ``(genomes,)``."""
        sensitivity = sum(table[genomes[:, site]] for site, table in enumerate(self._harms))
        return np.log(np.maximum(sensitivity, LEAST_KL))

    def trend(self, genomes: Genomes) -> Floats:
        """Give log KL by single-site harm alone, on the scores' line, ``(genomes,)``."""
        slope, offset = self._line
        return np.asarray(slope * self.additive(genomes) + offset)

    def fit(self, genomes: Genomes, kls: Floats, seen: Floats) -> None:
        """Learn from all scores so far.

        Args:
            genomes: ``(genomes, sites)``
            kls: Nats a token, ``(genomes,)``.
            seen: Share of the text that each was measured on, ``(genomes,)``.
        """
        telling = kls > LEAST_KL
        if telling.sum() < _FEWEST:
            return
        features = self._features(genomes[telling])
        target = np.log(kls[telling])
        if np.ptp(features[:, 0]) > _LEAST_RANGE:
            self._line = np.polyfit(features[:, 0], target, 1, w=np.sqrt(seen[telling]))
        precision = (1.0 / seen[telling] - 1.0) + _FLOOR_NOISE
        if self._kernel is None or len(target) > _REFIT_GROWTH * self._chosen_at:
            self._kernel = _likeliest(features, target, precision)
            self._chosen_at = len(target)
        self._fitted = _fitted(features, target, precision, self._kernel)[1]

    def predict(self, genomes: Genomes) -> Floats:
        """Give the expected log KL, ``(genomes,)``; single-site harm's where little is known."""
        if self._fitted is None:
            return self.trend(genomes)
        fitted, kernel = self._ready()
        return np.asarray(
            _covariance(self._features(genomes), fitted.features, kernel) @ fitted.weights
        )

    def spread(self, genomes: Genomes) -> Floats:
        """Give the standard deviation of log KL, ``(genomes,)``."""
        if self._fitted is None:
            return np.ones(len(genomes))
        fitted, kernel = self._ready()
        features = self._features(genomes)
        cross = _covariance(features, fitted.features, kernel)
        known = solve_triangular(fitted.factor, cross.T, lower=True)
        own = _own_variance(features, kernel)
        variance = fitted.scale * np.maximum(own - (known**2).sum(axis=0), 1e-9)
        return np.asarray(np.sqrt(variance))

    def _ready(self) -> tuple[_Fitted, _Kernel]:
        assert self._fitted is not None
        assert self._kernel is not None
        return self._fitted, self._kernel

    def _features(self, genomes: Genomes) -> Floats:
        """Give the additive trend, then a coordinate for each site, ``(genomes, 1 + sites)``."""
        places = [table[genomes[:, site]] for site, table in enumerate(self._coordinates)]
        return np.column_stack([self.additive(genomes), *places])


def _coordinate(table: Floats, top: int) -> Floats:
    """Place levels from 0 (dense) to 1 (nothing kept), midway between cut and harm."""
    cut = 1.0 - np.arange(top + 1) / top
    return (cut + table / table[0]) / 2 if table[0] > 0 else cut


def _covariance(left: Floats, right: Floats, kernel: _Kernel) -> Floats:
    ours, theirs = left[:, 1:], right[:, 1:]
    sites = ours.shape[1]
    squares = (ours**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1)[None]
    inner = ours @ theirs.T
    near = np.exp(-np.maximum(squares - 2 * inner, 0.0) / (2 * kernel.length**2))
    trend = _TREND_VARIANCE * (1.0 + left[:, :1] * right[:, 0][None])
    share = kernel.linear_share
    return np.asarray(trend + share * inner * (4 / sites) + (1 - share) * near)


def _own_variance(features: Floats, kernel: _Kernel) -> Floats:
    sites = features.shape[1] - 1
    linear = (features[:, 1:] ** 2).sum(axis=1) * (4 / sites)
    trend = _TREND_VARIANCE * (1.0 + features[:, 0] ** 2)
    return np.asarray(trend + kernel.linear_share * linear + 1 - kernel.linear_share)


def _fitted(
    features: Floats, target: Floats, precision: Floats, kernel: _Kernel
) -> tuple[float, _Fitted]:
    """Condition on scores; also give the logarithm of their likelihood, up to a constant."""
    count = len(target)
    covariance = _covariance(features, features, kernel) + np.diag(kernel.noise * precision + 1e-8)
    factor = cholesky(covariance, lower=True, check_finite=False)
    weights = cho_solve((factor, True), target, check_finite=False)
    scale = max(float(target @ weights) / count, 1e-12)
    likelihood = -0.5 * count * np.log(scale) - float(np.log(np.diag(factor)).sum())
    return likelihood, _Fitted(features, factor, weights, scale)


def _likeliest(features: Floats, target: Floats, precision: Floats) -> _Kernel:
    best, chosen = -np.inf, None
    for share, length, noise in product(_SHARES_LINEAR, _LENGTHS, _NOISES):
        kernel = _Kernel(share, length, noise)
        try:
            likelihood, _ = _fitted(features, target, precision, kernel)
        except LinAlgError:
            continue
        if likelihood > best:
            best, chosen = likelihood, kernel
    assert chosen is not None  # large noise always leaves one
    return chosen
