import math

import numpy as np
import pytest

from evaluators.metric import Measurement
from evaluators.scoring.score import difference, estimate
from planner.results.significance import compare_kl, smallest_difference

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


def test_what_windows_can_tell_apart_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    plans, windows, spread, repetitions = 4, 16, 0.05, 1500
    # hard windows are hard for all plans, which must not count
    hardness = rng.normal(1.0, 0.5, (repetitions, 1, windows))
    values = hardness + rng.normal(0.0, spread, (repetitions, plans, windows))
    # Student's t at 15 degrees: 2.131 for 97.5 %, 0.866 for 80 %
    distance = (2.131 + 0.866) * spread * math.sqrt(2 / windows)
    stated = np.array([smallest_difference(each) for each in values])
    assert math.sqrt((stated**2).mean()) == pytest.approx(distance, rel=0.02)
    found = [
        compare_kl(estimate(ours), estimate(theirs + distance))[1] == "better"
        for ours, theirs, *_ in values
    ]
    # of a binomial share: three errors of 0.8 among so many
    assert np.mean(found) == pytest.approx(0.8, abs=3 * math.sqrt(0.16 / repetitions))


def test_plans_that_differ_alike_on_all_windows_are_told_apart_at_any_distance() -> None:
    values = HARD + np.array([[0.0], [0.5], [1.0]])
    assert smallest_difference(values) == pytest.approx(0.0, abs=1e-12)
    by_hand = np.array([[0.0, 0.0, 0.0], [0.1, -0.1, 0.3]])
    # the differences 0.1, −0.1 and 0.3 spread by 0.2; t at 2 degrees: 4.303 and 1.061
    assert smallest_difference(by_hand) == pytest.approx(
        (4.3027 + 1.0607) * 0.2 / 3**0.5, rel=1e-4
    )
