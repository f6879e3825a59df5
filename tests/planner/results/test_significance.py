import math

import numpy as np
import pytest

from evaluators.metric import Measurement
from evaluators.scoring.score import difference, estimate
from planner.results.significance import compare_kl

HARD = np.array([1.0, 5.0, 9.0, 2.0])
"""What one plan scored on four windows, some of them far harder than others."""


def test_differences_are_paired_where_the_same_windows_gave_both() -> None:
    ours, theirs = estimate(HARD), estimate(HARD + np.array([0.1, 0.2, 0.1, 0.2]))
    found = difference(theirs, ours)
    assert found.value == pytest.approx(0.15)
    assert found.standard_error == pytest.approx(0.1 / math.sqrt(3) / 2)  # of 0.1 0.2 0.1 0.2
    alone = difference(theirs, Measurement(value=ours.value, standard_error=3.0))
    assert alone.standard_error == pytest.approx(math.hypot(3.0, theirs.standard_error))
    other_count = difference(theirs, estimate(HARD[:3]))
    assert other_count.by_window == ()


def test_pairs_tell_apart_what_their_own_errors_do_not() -> None:
    ours, theirs = estimate(HARD), estimate(HARD + np.array([0.10, 0.12, 0.11, 0.13]))
    assert ours.standard_error > 10 * (theirs.value - ours.value)
    assert compare_kl(ours, theirs)[1] == "better"
    assert compare_kl(theirs, ours)[1] == "no better"
    unpaired = Measurement(value=theirs.value, standard_error=theirs.standard_error)
    assert compare_kl(ours, unpaired)[1] == "perhaps"


def test_few_windows_make_a_verdict_careful() -> None:
    """A mean of 2.5 standard errors is beyond them on many windows, and on three it is not."""
    few = np.array([0.0, 1.0, 1.9])
    gain, verdict = compare_kl(estimate(np.zeros(3)), estimate(few))
    assert 1.6 < gain.value / gain.standard_error < 4.30  # Student's t at 2 degrees, one in forty
    assert verdict == "perhaps"
    many = np.tile(few, 20)
    assert compare_kl(estimate(np.zeros(60)), estimate(many))[1] == "better"


def test_equal_scores_are_no_better() -> None:
    gain, verdict = compare_kl(estimate(HARD), estimate(HARD))
    assert (gain.value, gain.standard_error, verdict) == (0.0, 0.0, "no better")
