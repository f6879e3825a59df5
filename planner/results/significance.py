"""Significance test of one plan being better than another on held-out text."""

from typing import Literal

from scipy.special import stdtrit

from evaluators.metric import Measurement
from evaluators.scoring.score import difference

Verdict = Literal["better", "perhaps", "no better"]
"""Of a KL: significantly lower at 2.5 %, lower but not significantly, or not lower."""

_CONFIDENCE = 0.975
"""One-sided, so that equal plans test as significantly better one time in forty."""
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
