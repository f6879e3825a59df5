from collections.abc import Callable
from itertools import pairwise as neighbours
from itertools import product
from math import inf

import numpy as np
import pytest

from planner.searchers.protocol import Ask
from tests.problems import ToyModel, additive, noisy, pairwise, two_costs
from tests.problems.costs import summed
from tests.problems.trial import Account, Trial, additive_plans, try_searcher

TINY = ToyModel(
    top_levels=np.array([2, 1, 3]),
    sensitivity=np.array([0.5, 0.2, 0.4]),
    power=np.array([2.0, 1.0, 1.5]),
    interactions=np.array([[0.0, 0.7, 0.0], [0.0, 0.0, -0.1], [0.0, 0.0, 0.0]]),
    costs=(
        summed(
            (np.array([0, 0.1, 0.3]), np.array([0, 0.2]), np.array([0, 0.1, 0.2, 0.3])),
            fixed=0.2,
        ),
    ),
)


def tiny_point(levels: tuple[int, ...]) -> tuple[float, float]:
    """KL and cost, written out."""
    a, b, c = 1 - levels[0] / 2, 1 - levels[1], 1 - levels[2] / 3
    kl = 0.5 * a**2 + 0.2 * b + 0.4 * c**1.5 + 0.7 * a * b - 0.1 * b * c
    return kl, 0.2 + (0.0, 0.1, 0.3)[levels[0]] + 0.2 * levels[1] + 0.1 * levels[2]


def test_enumeration_equals_brute_force() -> None:
    by_hand = {levels: tiny_point(levels) for levels in product(range(3), range(2), range(4))}
    assert [tuple(row) for row in TINY.all_genomes().tolist()] == list(by_hand)
    assert TINY.size == len(by_hand) == 24
    assert TINY.objectives(TINY.all_genomes()) == pytest.approx(np.array(list(by_hand.values())))
    best = {
        point
        for point in by_hand.values()
        if not any(
            other[0] <= point[0] + 1e-12 and other[1] <= point[1] + 1e-12 and other != point
            for other in by_hand.values()
        )
    }
    front = TINY.objectives(TINY.front())
    assert front == pytest.approx(np.array(sorted(best, key=lambda point: -point[1])))
    # the area under the steps, from the cheapest plan to the dense cost
    steps = [*sorted(best, key=lambda point: point[1]), (0.0, 1.0)]
    top = TINY.reference[0]
    area = sum((top - low[0]) * (high[1] - low[1]) for low, high in neighbours(steps))
    some = TINY.front()[:3]
    share = TINY.hypervolume(some)
    assert TINY.hypervolume(TINY.all_genomes()) == TINY.hypervolume(TINY.front()) == 1
    assert 0 < share < 1
    assert TINY._volume(TINY.front()) == pytest.approx(area)


PROBLEMS = (additive, pairwise, two_costs)


@pytest.mark.parametrize("make", PROBLEMS)
def test_keeping_more_never_harms_and_the_dense_genome_is_whole(
    make: Callable[[], ToyModel],
) -> None:
    toy = make()
    kl = toy.kl(toy.all_genomes()).reshape(toy.top_levels + 1)
    assert kl.flat[-1] == 0
    assert kl.min() == 0
    for site in range(kl.ndim):
        assert np.diff(kl, axis=site).max() <= 1e-12
    assert toy.objectives(toy.top_levels[None])[0] == pytest.approx([0, *[1] * len(toy.costs)])
    assert 50_000 <= toy.size <= 1_000_000
    assert len(set(toy.top_levels.tolist())) > 2


def test_what_is_cheaper_than_of_interest_adds_nothing() -> None:
    toy = pairwise()
    costs = toy.costs[0].of(toy.front())
    of_interest = toy.front()[costs > 0.4 - 1e-9]
    assert toy.hypervolume(of_interest) == pytest.approx(1)
    assert toy.hypervolume(toy.front()[costs < 0.39]) == 0
    assert toy.hypervolume(np.zeros((1, len(toy.top_levels)), dtype=np.int_)) == 0
    assert TINY.reference == pytest.approx((tiny_point((0, 0, 0))[0], 1.0))


def test_adding_up_solves_the_additive_problem_and_not_the_pairwise_one() -> None:
    alone, together = (toy.hypervolume(additive_plans(toy)) for toy in (additive(), pairwise()))
    assert alone > 0.98
    assert together < 0.97


def test_gradients_are_derivatives() -> None:
    fine = ToyModel(
        top_levels=np.array([1000, 500, 2000]),
        sensitivity=TINY.sensitivity,
        power=TINY.power,
        interactions=TINY.interactions,
        costs=TINY.costs,
    )
    genome = np.array([300, 200, 1500])
    gradients = np.split(fine.gradients(genome), np.cumsum(fine.top_levels + 1)[:-1])
    for site, slope in enumerate(gradients):
        assert len(slope) == fine.top_levels[site] + 1
        assert slope[genome[site]] == 0
        moved = genome.copy()
        moved[site] += 1
        change = float(fine.kl(moved[None])[0] - fine.kl(genome[None])[0])
        assert slope[moved[site]] == pytest.approx(change, rel=0.02)
    # a sudden rise of KL does not show at the dense genome, as with a real gradient
    dense = np.split(fine.gradients(fine.top_levels), np.cumsum(fine.top_levels + 1)[:-1])
    assert [float(slope[0]) for slope in dense] == pytest.approx([0, 0.2, 0])


def test_answers_are_what_the_loop_would_tell() -> None:
    genomes = TINY.all_genomes()[:5]
    whole = TINY.answer(Ask(genomes=genomes))
    assert (whole.objectives == TINY.objectives(genomes)).all()
    assert whole.seen.tolist() == [1.0] * 5
    assert TINY.answer(Ask(genomes=genomes, rungs=1)).seen.tolist() == [0.25] * 5
    assert TINY.answer(Ask(genomes=genomes, rungs=9)).seen.tolist() == [1.0] * 5
    assert TINY.answer(Ask(genomes=genomes, windows=(0, 5))).seen.tolist() == [0.125] * 5
    told = TINY.answer(Ask(genomes=genomes, gradients=True))
    assert [slope.shape for slope in told.gradients] == [(9,)] * 5
    assert TINY.answer(Ask(genomes=genomes[:0])).objectives.shape == (0, 2)


def test_noise_shrinks_with_the_text_seen_and_repeats() -> None:
    genomes = noisy().all_genomes()[:-1:288]
    truth = noisy().kl(genomes)
    spreads = []
    for rungs in (1, 2, 3):
        told = noisy().answer(Ask(genomes=genomes, rungs=rungs)).objectives[:, 0]
        again = noisy().answer(Ask(genomes=genomes[::-1], rungs=rungs)).objectives[::-1, 0]
        assert (told == again).all()
        spreads.append(float(np.std(told / truth)))
    assert spreads[0] == pytest.approx(0.4 * (3 / 16) ** 0.5, rel=0.15)
    assert spreads[0] > 1.5 * spreads[1] > spreads[2] == pytest.approx(0, abs=1e-12)


def test_a_limit_narrows_where_a_searcher_looks() -> None:
    toy = pairwise()
    assert (toy.domain().cost_floor, toy.domain().costs[0].limit) == (0.4, None)
    assert TINY.domain().cost_floor == TINY.smallest
    wide = toy.domain(limit=0.6)
    assert wide.cost_floor == pytest.approx(0.5)
    assert wide.cost_ceiling == 1.0
    narrow = toy.domain(limit=0.6, only_budget=True)
    assert narrow.cost_floor == pytest.approx(0.58)
    assert narrow.cost_ceiling == 0.6
    assert toy.domain(limit=0.45).cost_floor == toy.cheapest


def test_what_is_asked_is_counted_by_the_text_that_it_takes() -> None:
    account = Account()
    genomes = TINY.all_genomes()
    account.charge(Ask(genomes=genomes[:4], rungs=1), 0.25)
    assert account.spent == 1.0
    assert account.complete == []
    account.charge(Ask(genomes=genomes[:8]), 1.0)
    assert account.spent == 8.0  # what was seen of the first four is kept
    account.charge(Ask(genomes=genomes[:8], rungs=1), 0.25)
    assert account.spent == 8.0
    account.charge(Ask(genomes=genomes[:2], gradients=True), 0.0)
    account.charge(Ask(genomes=genomes[:2], windows=(0, 1)), 0.125)
    assert account.spent == 14.25
    assert len(account.complete) == 8


def test_a_trial_tells_what_was_found_when() -> None:
    trial = Trial(evaluations=(0.0, 32.0, 64.0, 96.0), shares=(0.0, 0.5, 0.9, 1.0))
    assert [trial.share_at(n) for n in (-1, 31, 32, 95, 500)] == [0.0, 0.0, 0.5, 0.9, 1.0]
    assert [trial.needed(share) for share in (0.5, 0.6, 1.0, 1.1)] == [32.0, 64.0, 96.0, inf]


def test_a_search_ends_at_its_limit_or_when_all_is_found() -> None:
    short = try_searcher("random", pairwise(), 0, most=70)
    assert short.evaluations == (0.0, 32.0, 64.0, 96.0)
    assert list(short.shares) == sorted(short.shares)
    whole = try_searcher("random", TINY, 0, most=1000)
    assert whole.shares[-1] == pytest.approx(1)
    assert whole.evaluations[-1] <= TINY.size
    again = try_searcher("random", pairwise(), 0, most=70)
    assert again == short
    # all that a budget leaves is asked, and then the searcher falls silent
    bounded = try_searcher(
        "random", TINY, 0, most=1000, domain=TINY.domain(limit=0.4, only_budget=True)
    )
    assert bounded.shares[-1] < 1
