import math
from dataclasses import replace

import numpy as np
import pytest

from evaluators.metric import Measurement
from planner.results.indicators import Points, dominated, hypervolume, knee, margin, reference_kl
from tests.problems.toy_search import DENSE, evaluation


def points(*rows: tuple[float, ...], errors: float = 0.0) -> Points:
    """Points of ``(kl, share, …)``."""
    values = np.array(rows)
    return Points(kls=values[:, 0], errors=np.full(len(rows), errors), shares=values[:, 1:])


def test_points_are_kl_and_shares_of_the_dense_model() -> None:
    plans = [evaluation((3,) * 8), evaluation((0,) * 8)]
    found = Points.of(plans, ("params", "kv"), DENSE)
    assert found.kls == pytest.approx([0, 2.33])
    assert found.errors == pytest.approx([0.01, 0.01])
    assert found.shares == pytest.approx(np.array([[1, 1], [0.2, 0.2]]))
    assert found.objectives.shape == (2, 3)
    rescored = [replace(plan, holdout={"kl": Measurement(value=7.0)}) for plan in plans]
    assert Points.of(rescored, ("params",), DENSE, "holdout").kls == pytest.approx([7, 7])
    with pytest.raises(KeyError):
        Points.of(plans, ("params",), DENSE, "fresh")


def test_no_points_have_no_volume() -> None:
    none = Points.of([], ("params",), DENSE)
    assert hypervolume(none, 1.0) == 0
    assert reference_kl(none) == 0


@pytest.mark.parametrize(
    ("rows", "volume"),
    [
        ([(0.0, 0.0)], 1.0),
        ([(0.0, 1.0)], 0.0),
        ([(1.0, 0.5)], 0.25),
        ([(1.0, 0.5), (0.5, 0.75)], 0.25 + 0.25 * 0.25),
        ([(1.0, 0.5), (1.5, 0.5), (3.0, 0.1), (0.1, 1.2)], 0.25),
        ([(1.0, 0.5), (math.nan, 0.1)], 0.25),
    ],
)
def test_hypervolume_is_a_share_of_the_box(rows: list[tuple[float, ...]], volume: float) -> None:
    assert hypervolume(points(*rows), 2.0) == pytest.approx(volume)


def test_hypervolume_of_two_costs() -> None:
    assert hypervolume(points((1.0, 0.5, 0.5)), 2.0) == pytest.approx(1 / 8)


def test_what_is_cheaper_than_of_interest_counts_as_just_so_cheap() -> None:
    wide = points((1.0, 0.2), (0.5, 0.6))
    narrow = points((1.0, 0.4), (0.5, 0.6))
    assert hypervolume(wide, 2.0, cheapest=0.4) == hypervolume(narrow, 2.0, cheapest=0.4)
    assert hypervolume(points((0.0, 0.1)), 2.0, cheapest=0.4) == pytest.approx(1.0)


def test_a_reference_is_beyond_every_front_that_is_compared() -> None:
    assert reference_kl(points((1.0, 0.5)), points((3.0, 0.5), (2.0, 0.7))) == pytest.approx(3.3)
    # a harmless front alone spans no box
    assert hypervolume(points((0.0, 1.0)), reference_kl(points((0.0, 1.0)))) == 0


def test_dominance_by_value_and_significant_dominance() -> None:
    theirs = points((0.5, 0.5), (0.2, 0.8), errors=0.04)
    limit = float(margin(0.03, 0.04))
    assert limit == pytest.approx(0.1)
    ours = points(
        (0.5 + 1.01 * limit, 0.5),
        (0.5 + 0.99 * limit, 0.5),
        (9.0, 0.49),  # cheaper than any of theirs
        (0.5, 0.5),  # equal
        (0.5, 0.51),  # equal KL, dearer
        (0.1, 0.9),
        errors=0.03,
    )
    by_value, beyond = dominated(ours, theirs)
    assert by_value.tolist() == [True, True, False, False, True, False]
    assert beyond.tolist() == [True, False, False, False, False, False]


def test_dominance_asks_for_every_cost() -> None:
    theirs = points((0.1, 0.5, 0.9))
    by_value, beyond = dominated(points((9.0, 0.5, 0.8), (9.0, 0.5, 0.9)), theirs)
    assert by_value.tolist() == beyond.tolist() == [False, True]


def test_the_knee_is_farthest_below_the_chord() -> None:
    # chord from (1, 0) to (0.2, 4); below it by 1 − x − y: 0.25, 0.5, 0.375
    front = points((0.0, 1.0), (0.5, 0.7), (1.0, 0.4), (2.0, 0.3), (4.0, 0.2))
    assert knee(front) == 2
    # the unit of neither objective matters
    assert knee(Points(kls=front.kls * 50, errors=front.errors, shares=front.shares / 3)) == 2


def test_the_knee_of_two_costs() -> None:
    front = points((0.0, 1.0, 1.0), (4.0, 0.2, 0.6), (1.0, 0.4, 0.5), (2.0, 0.8, 0.2))
    assert knee(front) == 2


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(0.0, 1.0)],
        [(0.0, 1.0), (1.0, 0.5)],
        [(0.0, 1.0), (0.5, 0.75), (1.0, 0.5)],  # on the chord
        [(0.0, 1.0), (0.9, 0.9), (1.0, 0.5)],  # above it
    ],
)
def test_a_short_or_straight_front_has_no_knee(rows: list[tuple[float, ...]]) -> None:
    assert knee(points(*rows) if rows else Points.of([], ("params",), DENSE)) is None
