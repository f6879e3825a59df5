"""Significance test of one plan being better than another, and what it can tell apart."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from evaluators.metric import Measurement
from evaluators.scoring.score import difference

Verdict = Literal["better", "perhaps", "no better"]
"""Of a KL: significantly lower at 2.5 %, lower but not significantly, or not lower."""

_CONFIDENCE = 0.975
"""One-sided, so that equal plans test as significantly better one time in forty."""
_POWER = 0.8
"""Chance of finding a difference that is there, by which a test is said to be able to (Cohen,
"Statistical Power Analysis for the Behavioral Sciences", 1988, section 2.4)."""
_UNPAIRED_ERRORS = 2.0
"""Standard errors that stand for the same confidence if the windows are not known."""


def compare_kl(ours: Measurement, theirs: Measurement) -> tuple[Measurement, Verdict]:
    """Compare two KLs by Student's t test, paired if the same windows gave both.

    Returns:
        How much lower ours is, with its standard error, and the verdict.
    """
    advantage = difference(theirs, ours)
    windows = len(advantage.by_window)
    errors = float(stdtrit(windows - 1, _CONFIDENCE)) if windows > 1 else _UNPAIRED_ERRORS
    if advantage.value > errors * advantage.standard_error:
        return advantage, "better"
    return advantage, "perhaps" if advantage.value > 0 else "no better"


def smallest_difference(values: NDArray[np.float64]) -> float:
    """Return how far apart two plans must be for the test to find it four times in five.

    Windows that are hard for all plans cancel in a paired test, so that what is left of its error
    is how windows and plans interact, estimated over all pairs of plans at once. The power of the
    t test is that of its normal shift: Student's t quantiles of confidence and power add up.

    Args:
        values: KL of plans of about equal KL, by window, ``(plans, windows)``, two each at least.
    """
    plans, windows = values.shape
    by_plan, by_window = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    interaction = values - by_plan - by_window + values.mean()
    variance = float((interaction**2).sum()) / ((plans - 1) * (windows - 1))
    error = math.sqrt(2 * variance / windows)  # of the difference of two plans
    return float(stdtrit(windows - 1, _CONFIDENCE) + stdtrit(windows - 1, _POWER)) * error
