"""Whether samples that two models share show the pruned one to be worse, and what they could show.

References:
    McNemar (1947), Psychometrika 12, 153: the test of paired proportions; here its exact form.
    Connor (1987), Biometrics 43, 207: its power, given how often two models disagree. Duffy
    (1984), Biometrics 40, 1005, sums it exactly over the number of disagreements, as is done here.
    Bloom (1995), Evaluation Review 19, 547: the smallest effect that a t test detects.
    Holm (1979), Scandinavian Journal of Statistics 6, 65: p values of several tests together.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit
from scipy.stats import binom, binomtest

Verdict = Literal["worse", "not shown to be worse", "better"]

SIGNIFICANCE = 0.05
"""Of the two-sided tests."""
POWER = 0.8
"""With which the smallest detectable loss would have been shown."""
_NEGLIGIBLE = 1e-12
"""Probability of a number of disagreements below which it is left out of a sum."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What paired samples say of two models."""

    gain: float
    """Mean of pruned less dense; above 0: the pruned model is better."""
    standard_error: float
    p_value: float
    detectable_loss: float | None
    """Smallest loss that so many samples would have shown with a probability of `POWER`; None:
    there are too few for any."""
    lost: int | None = None
    """Samples that only the dense model has right, of samples that are right or wrong."""
    won: int | None = None
    """Samples that only the pruned model has right."""

    @property
    def verdict(self) -> Verdict:
        """Whether the pruned model is worse, by a test at `SIGNIFICANCE`."""
        return verdict(self.gain, self.p_value)


def verdict(gain: float, p_value: float) -> Verdict:
    """Return what a gain and its two-sided p value say."""
    if p_value > SIGNIFICANCE:
        return "not shown to be worse"
    return "worse" if gain < 0 else "better"


def compare_right_and_wrong(dense: NDArray[np.bool_], pruned: NDArray[np.bool_]) -> Comparison:
    """Compare two models by McNemar's exact test.

    Args:
        dense: Which samples ``(samples,)`` the dense model has right.
        pruned: The same of the pruned model.
    """
    lost, won = int((dense & ~pruned).sum()), int((pruned & ~dense).sum())
    disagreements = lost + won
    p_value = float(binomtest(lost, disagreements).pvalue) if disagreements else 1.0
    gain, error = mean_with_error(pruned.astype(float) - dense.astype(float))
    return Comparison(
        gain=gain,
        standard_error=error,
        p_value=p_value,
        detectable_loss=detectable_share(disagreements / len(dense), len(dense)),
        lost=lost,
        won=won,
    )


def compare_values(gains: NDArray[np.float64]) -> Comparison:
    """Compare two models by Student's paired t test.

    Args:
        gains: How much better the pruned model is at each sample ``(samples,)``, two or more,
            all finite.
    """
    assert np.isfinite(gains).all(), "no test compares what is no number"
    gain, error = mean_with_error(gains)
    freedom = len(gains) - 1
    if error > 0:
        p_value = 2 * float(stdtr(freedom, -abs(gain) / error))
    else:
        p_value = 1.0 if gain == 0 else 0.0
    quantiles = stdtrit(freedom, 1 - SIGNIFICANCE / 2) + stdtrit(freedom, POWER)
    return Comparison(
        gain=gain,
        standard_error=error,
        p_value=p_value,
        detectable_loss=float(quantiles) * error,
    )


def detectable_share(disagreement: float, count: int) -> float | None:
    """Return the smallest share of samples, net, whose loss McNemar's exact test would show.

    Args:
        disagreement: Share of samples that one model alone has right. Where it is too low for any
            loss to be shown, the answer assumes more of it, all of it lost.
        count: Of the samples.
    """
    if disagreement > 0 and mcnemar_power(disagreement, disagreement, count) >= POWER:
        return _root(lambda loss: mcnemar_power(loss, disagreement, count), 0.0, disagreement)
    if mcnemar_power(1.0, 1.0, count) < POWER:
        return None
    return _root(lambda loss: mcnemar_power(loss, loss, count), disagreement, 1.0)


def _root(power: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(lambda loss: power(loss) - POWER, low, high))


def mcnemar_power(loss: float, disagreement: float, count: int) -> float:
    """Return the probability that McNemar's exact test shows a loss.

    Args:
        loss: Share of samples that the dense model alone has right, less those that the pruned
            model alone has right; at most ``disagreement``.
        disagreement: Share of samples that one of them alone has right.
        count: Of the samples.
    """
    if disagreement == 0:
        return 0.0
    numbers = np.arange(count + 1)
    probabilities = binom.pmf(numbers, count, disagreement)
    numbers = numbers[probabilities > _NEGLIGIBLE]
    # the test shows a loss if more than this many disagreements are losses
    most_by_chance = binom.isf(SIGNIFICANCE / 2, numbers, 0.5)
    share = min(1.0, (1 + loss / disagreement) / 2)
    shown = binom.sf(most_by_chance, numbers, share)
    return float(np.sum(probabilities[numbers] * shown))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values that hold for all of several tests together.

    >>> [round(p, 3) for p in holm([0.04, 0.01, 0.5])]
    [0.08, 0.03, 0.5]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for position, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - position) * p_values[index]))
        adjusted[index] = largest
    return [float(p) for p in adjusted]


def mean_with_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean of samples ``(samples,)`` and its standard error; NaN: there is only one."""
    spread = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return float(values.mean()), spread / math.sqrt(len(values))
