"""The surrogate: a Gaussian process of log KL over genomes, fitted to every evaluation so far."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular

from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Floats, Genomes

MOST_FITTED = 700
"""Plans that it is fitted to: the work grows with their third power."""
_FEWEST = 3
LEAST_KL = 1e-5
"""Nats a token; below it a plan is as good as dense, and its logarithm is mere noise."""
_TREND_VARIANCE = 100.0
_SHARES_LINEAR = (0.2, 0.5, 0.8, 0.95)
_LENGTHS = (0.7, 1.5, 3.0)
_NOISES = (1e-3, 1e-2, 5e-2, 0.2)
_FLOOR_NOISE = 0.05
_REFIT_GROWTH = 1.2
_LEAST_RANGE = 1e-6


@dataclass(frozen=True)
class _Posterior:
    features: Floats
    """``(plans, 1 + sites)``"""
    factor: Floats
    """Lower Cholesky factor of their covariance, ``(plans, plans)``."""
    weights: Floats
    """Covariance⁻¹ · targets, ``(plans,)``."""
    scale: float
    """Of the variance."""


@dataclass(frozen=True)
class _Kernel:
    """Prior covariance of two plans' log KL."""

    linear_share: float
    """Of the variance: the part linear in the sites; the rest is their interaction."""
    length: float
    """Distance, in sites that differ, over which interactions are correlated."""
    noise: float
    """Variance of a score on half of the text, as a share of the plans' own."""


class Surrogate:
    """Kriging on a trend of additive sensitivity.

    The logarithm of KL is a trend in the logarithm of the summed sensitivities, plus a part linear
    in the sites, plus a smooth part in which neighbours are alike; each score weighs by the share
    of the text that it was measured on.

    Args:
        domain: Sites and levels.
        sensitivities: Tables of the single-site pass, for each site ``(levels,)``.

    References:
        Rasmussen & Williams, 2006, "Gaussian Processes for Machine Learning", sections 2.2, 2.7
        and 5.4.1.
    """

    def __init__(self, domain: Domain, sensitivities: tuple[Floats, ...]) -> None:
        self._sensitivities = sensitivities
        self._coordinates = [
            _coordinate(table, int(top))
            for table, top in zip(sensitivities, domain.top_levels, strict=True)
        ]
        self._kernel: _Kernel | None = None
        self._kernel_plan_count = 0
        self._posterior: _Posterior | None = None
        self._line: Floats = np.array([1.0, 0.0])

    def additive(self, genomes: Genomes) -> Floats:
        """Return the logarithm of the summed single-site sensitivities, ``(genomes,)``."""
        sensitivity = sum(
            table[genomes[:, site]] for site, table in enumerate(self._sensitivities)
        )
        return np.log(np.maximum(sensitivity, LEAST_KL))

    def trend(self, genomes: Genomes) -> Floats:
        """Return log KL by the additive trend alone, fitted to the scores, ``(genomes,)``."""
        slope, offset = self._line
        return np.asarray(slope * self.additive(genomes) + offset)

    def fit(self, genomes: Genomes, kls: Floats, seen: Floats) -> None:
        """Fit to all scores so far.

        Args:
            genomes: ``(genomes, sites)``
            kls: Nats a token, ``(genomes,)``.
            seen: Share of the text that each was measured on, ``(genomes,)``.
        """
        informative = kls > LEAST_KL
        if informative.sum() < _FEWEST:
            return
        features = self._features(genomes[informative])
        target = np.log(kls[informative])
        if np.ptp(features[:, 0]) > _LEAST_RANGE:
            self._line = np.polyfit(features[:, 0], target, 1, w=np.sqrt(seen[informative]))
        noise_weights = (1.0 / seen[informative] - 1.0) + _FLOOR_NOISE
        if self._kernel is None or len(target) > _REFIT_GROWTH * self._kernel_plan_count:
            self._kernel = _most_likely_kernel(features, target, noise_weights)
            self._kernel_plan_count = len(target)
        self._posterior = _condition(features, target, noise_weights, self._kernel)[1]

    def predict(self, genomes: Genomes) -> Floats:
        """Return the expected log KL, ``(genomes,)``; by the trend before the first fit."""
        if self._posterior is None:
            return self.trend(genomes)
        posterior, kernel = self._ready()
        return np.asarray(
            _covariance(self._features(genomes), posterior.features, kernel) @ posterior.weights
        )

    def spread(self, genomes: Genomes) -> Floats:
        """Return the standard deviation of log KL, ``(genomes,)``."""
        if self._posterior is None:
            return np.ones(len(genomes))
        posterior, kernel = self._ready()
        features = self._features(genomes)
        cross = _covariance(features, posterior.features, kernel)
        # with L Lᵀ the covariance, c · covariance⁻¹ · cᵀ is the squared length of L⁻¹ cᵀ
        explained = solve_triangular(posterior.factor, cross.T, lower=True)
        prior = _prior_variance(features, kernel)
        variance = posterior.scale * np.maximum(prior - (explained**2).sum(axis=0), 1e-9)
        return np.asarray(np.sqrt(variance))

    def _ready(self) -> tuple[_Posterior, _Kernel]:
        assert self._posterior is not None
        assert self._kernel is not None
        return self._posterior, self._kernel

    def _features(self, genomes: Genomes) -> Floats:
        """Return log summed sensitivity, then a coordinate a site, ``(genomes, 1 + sites)``."""
        places = [table[genomes[:, site]] for site, table in enumerate(self._coordinates)]
        return np.column_stack([self.additive(genomes), *places])


def _coordinate(table: Floats, top: int) -> Floats:
    """Place levels from 0 (dense) to 1 (nothing kept), by pruned share and sensitivity halfway."""
    pruned = 1.0 - np.arange(top + 1) / top
    return (pruned + table / table[0]) / 2 if table[0] > 0 else pruned


def _covariance(left: Floats, right: Floats, kernel: _Kernel) -> Floats:
    left_sites, right_sites = left[:, 1:], right[:, 1:]
    sites = left_sites.shape[1]
    squares = (left_sites**2).sum(axis=1)[:, None] + (right_sites**2).sum(axis=1)[None]
    inner = left_sites @ right_sites.T
    # ‖a − b‖² = ‖a‖² + ‖b‖² − 2 a·b, below 0 by rounding only
    near = np.exp(-np.maximum(squares - 2 * inner, 0.0) / (2 * kernel.length**2))
    trend = _TREND_VARIANCE * (1.0 + left[:, :1] * right[:, 0][None])
    share = kernel.linear_share
    return np.asarray(trend + share * inner * (4 / sites) + (1 - share) * near)


def _prior_variance(features: Floats, kernel: _Kernel) -> Floats:
    sites = features.shape[1] - 1
    linear = (features[:, 1:] ** 2).sum(axis=1) * (4 / sites)
    trend = _TREND_VARIANCE * (1.0 + features[:, 0] ** 2)
    return np.asarray(trend + kernel.linear_share * linear + 1 - kernel.linear_share)


def _condition(
    features: Floats, target: Floats, noise_weights: Floats, kernel: _Kernel
) -> tuple[float, _Posterior]:
    """Condition on scores; also return the logarithm of their likelihood, up to a constant."""
    count = len(target)
    covariance = _covariance(features, features, kernel) + np.diag(
        kernel.noise * noise_weights + 1e-8
    )
    factor = cholesky(covariance, lower=True, check_finite=False)
    weights = cho_solve((factor, True), target, check_finite=False)
    scale = max(float(target @ weights) / count, 1e-12)
    likelihood = -0.5 * count * np.log(scale) - float(np.log(np.diag(factor)).sum())
    return likelihood, _Posterior(features, factor, weights, scale)


def _most_likely_kernel(features: Floats, target: Floats, noise_weights: Floats) -> _Kernel:
    """Return the kernel of a grid under which the scores are likeliest."""
    best, chosen = -np.inf, None
    for share, length, noise in product(_SHARES_LINEAR, _LENGTHS, _NOISES):
        kernel = _Kernel(share, length, noise)
        try:
            likelihood, _ = _condition(features, target, noise_weights, kernel)
        except LinAlgError:
            continue
        if likelihood > best:
            best, chosen = likelihood, kernel
    assert chosen is not None  # large noise always leaves one
    return chosen
