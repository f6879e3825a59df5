from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluators.scoring.prefix_tree import Members
from evaluators.scoring.racing import (
    Race,
    Survivors,
    judge_front,
    judge_half,
    projected,
    rungs_of,
    surely_worse,
)
from evaluators.scoring.score import Score

RUNGS = (4, 8, 16)


def race_values(means: list[float], seed: int = 0, noise: float = 0.05) -> NDArray[np.float64]:
    """KL of candidates on windows of very different difficulty, ``(candidates, 16)``."""
    rng = np.random.default_rng(seed)
    difficulty = rng.lognormal(sigma=0.6, size=RUNGS[-1])
    return np.array(means)[:, None] * difficulty + rng.normal(scale=noise, size=(len(means), 16))


class Marker:
    """Hands out known values rung by rung and counts what it gave."""

    def __init__(self, values: NDArray[np.float64], broken: frozenset[int] = frozenset()) -> None:
        self.values = values
        self.windows = 0
        self._broken = broken

    def __call__(self, members: Members, rung: int) -> Iterator[tuple[int, Score]]:
        start, stop = (0, *RUNGS)[rung : rung + 2]
        for position in reversed(range(len(members))):
            self.windows += stop - start
            part = self.values[members[position], start:stop]
            failure = "broken" if int(members[position]) in self._broken else None
            yield position, Score(by_window={"kl": part}, tokens=1, seconds=0.5, failure=failure)


def judge_two(_members: Members, values: NDArray[np.float64]) -> Survivors:
    """Drop whom two are surely better than."""
    beaten_by = surely_worse(values, values, 0.025).sum(axis=1)
    return np.asarray(beaten_by < 2)


def test_the_clearly_best_come_to_the_end_and_others_do_not() -> None:
    values = race_values([0.2, 0.3, 1.0, 1.1, 1.2, 1.3, 2.0, 3.0])
    marker = Marker(values)
    race = Race(RUNGS, marker, judge_two)
    landings = list(race.run(8))
    assert race.finalists.tolist() == [0, 1]
    assert marker.windows < 8 * 16 / 2
    assert [score.windows for member, score in landings if member == 0] == list(RUNGS)
    for member, score in race.scores.items():
        assert np.array_equal(score.by_window["kl"], values[member, : score.windows])


def test_equals_rarely_differ() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(2000, 2, 1, 8))
    wrong = [surely_worse(one, other, 0.05)[0, 0] for one, other in pairs]
    assert np.mean(wrong) == pytest.approx(0.05, abs=0.02)


def test_pairing_sees_what_separate_errors_hide() -> None:
    values = race_values([1.0, 1.1], noise=0.005)
    means, errors = values.mean(axis=1), values.std(axis=1, ddof=1) / 4
    assert means[1] - means[0] < errors[0]
    assert surely_worse(values[1:], values[:1], 0.01)[0, 0]


def test_identical_scores_are_not_worse() -> None:
    values = np.ones((2, 4))
    assert not surely_worse(values, values, 0.05).any()


def test_a_dearer_rival_does_not_drop_a_candidate_and_a_cheaper_one_does() -> None:
    costs = np.array([[0.5], [0.6], [0.7]])
    nobody = np.empty((0, 16)), np.empty((0, 1))
    values = race_values([1.0, 2.0, 0.5])
    judge = judge_front(costs, *nobody)
    assert judge(np.arange(3), values).tolist() == [True, False, True]
    # 0 is cheaper and better than 1; a rival of an earlier round drops 0 too
    judge = judge_front(costs, race_values([0.4]), np.array([[0.4]]))
    assert judge(np.arange(3), values[:, :8]).tolist() == [False] * 3
    judge = judge_front(costs, race_values([0.4]), np.array([[0.55]]))
    assert judge(np.array([0, 2]), values[[0, 2], :8]).tolist() == [True, False]


def test_all_costs_count() -> None:
    costs = np.array([[0.5, 0.9], [0.6, 0.8]])
    judge = judge_front(costs, np.empty((0, 16)), np.empty((0, 2)))
    assert judge(np.arange(2), race_values([1.0, 2.0])).tolist() == [True, True]


def test_halving_keeps_the_half_nearest_to_the_front() -> None:
    costs = np.array([[0.5], [0.6], [0.7], [0.8], [0.9]])
    judge = judge_half(costs, np.empty((0, 16)), np.empty((0, 1)))
    # as shares of the best that is no dearer: 1, 2, 1, 6, 1.2
    values = np.array([1.0, 2.0, 0.5, 3.0, 0.6])[:, None] * np.ones(4)
    assert judge(np.arange(5), values).tolist() == [True, False, True, False, True]


def test_a_broken_candidate_leaves_the_race_and_nobody_else() -> None:
    marker = Marker(race_values([0.1, 1.0, 2.0]), broken=frozenset({0}))
    race = Race(RUNGS, marker, judge_two)
    list(race.run(3))
    assert race.finalists.tolist() == [1, 2]
    assert race.scores[0].windows == 4


def test_an_empty_race_ends() -> None:
    race = Race(RUNGS, Marker(np.empty((0, 16))), judge_two)
    assert list(race.run(0)) == []
    assert len(race.finalists) == 0


@pytest.mark.parametrize(
    ("windows", "rungs"), [(16, (4, 8, 16)), (8, (4, 8)), (7, (7,)), (2, (2,)), (64, (16, 32, 64))]
)
def test_rungs_double_and_begin_with_enough_for_a_test(
    windows: int, rungs: tuple[int, ...]
) -> None:
    assert rungs_of(windows) == rungs


def test_a_short_score_is_projected_through_the_windows_that_it_lacks() -> None:
    values = race_values([0.5, 1.0, 2.0], noise=0.0)
    for count in (4, 8, 16):
        found = projected(values[1, :count], values[[0, 2]])
        assert found == pytest.approx(values[1].mean())
    assert abs(values[1, :4].mean() / values[1].mean() - 1) > 0.05  # something to correct
    assert projected(values[1, :4], np.empty((0, 0))) == values[1, :4].mean()
    assert projected(values[1, :4], np.zeros((1, 16))) == values[1, :4].mean()
