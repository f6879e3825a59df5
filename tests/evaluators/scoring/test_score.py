import math

import numpy as np
import pytest

from evaluators.scoring.score import Score, estimate

UNCUT = Score(
    by_window={"kl": np.array([1.0, 2.0, 3.0, 6.0]), "nll": np.arange(4.0)}, tokens=40, seconds=2.0
)


def test_the_estimate_is_mean_and_error_of_the_mean() -> None:
    found = UNCUT.quality["kl"]
    assert found.value == 3.0
    assert found.standard_error == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3 / 4))


def test_one_window_has_no_error() -> None:
    assert math.isnan(estimate(np.array([1.0])).standard_error)


@pytest.mark.parametrize("windows", [0, 1, 3, 4])
def test_a_score_taken_apart_joins_again(windows: int) -> None:
    first, rest = UNCUT.upto(windows), UNCUT.since(windows)
    assert (first.windows, rest.windows) == (windows, 4 - windows)
    assert first.then(rest) == UNCUT
    assert first.tokens == 10 * windows


def test_scores_are_equal_by_value_and_a_failure_lasts() -> None:
    broken = Score(by_window={"kl": np.array([math.nan])}, tokens=1, seconds=0.0, failure="NaN")
    assert broken == Score(
        by_window={"kl": np.array([math.nan])}, tokens=1, seconds=0.0, failure="NaN"
    )
    assert broken != UNCUT
    assert UNCUT.upto(2) != UNCUT.since(2)
    assert broken.then(broken).failure == "NaN"
