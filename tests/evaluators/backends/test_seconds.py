"""What parts took tells what each kind of work takes."""

import numpy as np
import pytest

from evaluators.backends.seconds import Seconds

RATES = np.array([2e-11, 3e-4, 5e-11])
"""Seconds of a product, of a component run, and of a product of reading out."""


def parts(count: int) -> np.ndarray:
    """Amounts of parts of a population: wide and narrow, with a few candidates or many."""
    rng = np.random.default_rng(0)
    runs, candidates = rng.integers(100, 2_000, size=count), rng.integers(2, 40, size=count)
    return np.column_stack([runs * rng.uniform(1e5, 4e6, size=count), runs, candidates * 3e7])


def test_until_parts_are_measured_products_are_counted() -> None:
    seconds = Seconds()
    seconds.learn(parts(1)[0], 1.0)
    assert seconds.rates.tolist() == [1.0, 0.0, 1.0]


def test_seconds_of_parts_are_foretold() -> None:
    seconds, amounts = Seconds(), parts(60)
    noise = np.random.default_rng(1).normal(1.0, 0.05, size=60)
    for part, factor in zip(amounts[:40], noise, strict=False):
        seconds.learn(part, float(part @ RATES * factor))
    assert seconds.rates == pytest.approx(RATES, rel=0.1)
    assert amounts[40:] @ seconds.rates == pytest.approx(amounts[40:] @ RATES, rel=0.05)


def test_what_nobody_measured_is_left_out() -> None:
    """A part in which all workers died took no time that is known."""
    seconds = Seconds()
    for part in parts(40):
        seconds.learn(part, 0.0)
    assert seconds.rates.tolist() == [1.0, 0.0, 1.0]
