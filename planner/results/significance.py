"""Whether one plan is better than another on text that chose neither, beyond the error."""

from typing import Literal

from scipy.special import stdtrit

from evaluators.metric import Measurement
from evaluators.scoring.score import difference

Verdict = Literal["better", "perhaps", "no better"]
"""Lower beyond the error, lower within it, or not lower."""

_CONFIDENCE = 0.975
"""To each side, so that a verdict beyond the error is wrong one time in forty."""
_ERRORS = 2.0
"""Standard errors that say the same where the count of windows is not known."""


def judged(ours: Measurement, theirs: Measurement) -> tuple[Measurement, Verdict]:
    """Judge two KLs by Student's t, paired where the same windows gave both.

    Returns:
        How much lower ours is, with the error of that, and what to say of it.
    """
    gain = difference(theirs, ours)
    windows = len(gain.by_window)
    margin = float(stdtrit(windows - 1, _CONFIDENCE)) if windows > 1 else _ERRORS
    if gain.value > margin * gain.standard_error:
        return gain, "better"
    return gain, "perhaps" if gain.value > 0 else "no better"
