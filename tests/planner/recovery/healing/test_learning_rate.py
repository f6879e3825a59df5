"""The rate rises for a few steps, and then falls to nothing as what is allowed is used up."""

import pytest

from planner.recovery.healing.learning_rate import Limits, learning_rate


def test_it_rises_for_ten_steps_and_falls_along_a_cosine() -> None:
    assert learning_rate(2.0, 0, 0.0) == pytest.approx(0.2)
    assert learning_rate(2.0, 9, 0.0) == pytest.approx(2.0)
    assert learning_rate(2.0, 50, 0.5) == pytest.approx(1.0)
    assert learning_rate(2.0, 99, 1.0) == pytest.approx(0.0)


def test_a_training_of_few_steps_warms_up_sooner() -> None:
    assert learning_rate(2.0, 1, 0.5) == pytest.approx(1.0)


def test_the_limit_that_is_nearer_counts() -> None:
    limits = Limits(minutes=2, tokens=1000)
    assert limits.share(seconds=30, tokens=100) == pytest.approx(0.25)
    assert limits.share(seconds=30, tokens=900) == pytest.approx(0.9)
    assert limits.share(seconds=500, tokens=0) == 1.0
