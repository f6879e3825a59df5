import numpy as np
import pytest

from planner.searchers.problem.descent import Descent
from planner.searchers.problem.domain import Domain
from tests.problems.costs import summed
from tests.problems.plays import droppable, layered, two_costs
from tests.problems.toy_search import domain


def test_what_is_left_of_the_way_by_hand() -> None:
    way = Descent.to_end(droppable([0.2, 0.3, 0.1], 0.6))
    genomes = np.array([[1, 1, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert way.remaining(genomes) == pytest.approx([1.0, 0.5, 0.75, 0.0, 0.0])


def test_each_of_two_costs_is_half_of_the_way_and_gains_nothing_below_its_target() -> None:
    way = Descent.to_budget(two_costs(limits=(0.5, 0.75), only_budget=True))
    genomes = np.array([[1, 2, 2, 2], [0, 0, 2, 2], [2, 2, 1, 2], [1, 1, 2, 1], [0, 0, 0, 0]])
    assert way.remaining(genomes) == pytest.approx([0.75, 0.5, 0.5, 0.0, 0.0])


@pytest.mark.parametrize(
    ("limits", "only_budget", "end", "budget"),
    [
        ((None, None), False, [0.5, None], [0.5, None]),
        ((0.75, None), False, [0.5, None], [0.75, None]),
        ((0.75, 0.25), False, [0.5, 0.25], [0.75, 0.25]),
        ((0.75, 0.25), True, [0.75, 0.25], [0.75, 0.25]),
        ((None, 0.25), True, [None, 0.25], [None, 0.25]),
        ((None, None), True, [0.5, None], [0.5, None]),
    ],
)
def test_where_the_way_ends(
    limits: tuple[float | None, float | None],
    only_budget: bool,
    end: list[float | None],
    budget: list[float | None],
) -> None:
    space = two_costs(limits=limits, only_budget=only_budget)
    assert Descent.to_end(space).limits_at(1.0) == end
    assert Descent.to_budget(space).limits_at(1.0) == budget


def test_what_is_allowed_half_way() -> None:
    way = Descent.to_budget(two_costs(limits=(0.5, None), only_budget=True))
    assert way.limits_at(0.5) == [pytest.approx(0.75), None]


def test_a_step_saves_enough_and_no_more() -> None:
    way = Descent.to_end(layered(1, 0.6))  # an MLP level is 0.075 of 0.4
    genome = np.array([4, 8])
    assert way.lowered(genome, [0, 1], 0.0).tolist() == [[3, 8], [4, 7]]
    assert way.lowered(genome, [1], 0.3).tolist() == [[4, 6]]
    # all that the attention has
    assert way.lowered(genome, [0], 0.7).tolist() == [[0, 8]]
    # all that is left of the way
    assert way.lowered(genome, [1], 5.0).tolist() == [[4, 2]]
    assert way.lowered(genome, [0], 0.7, lowest=1).tolist() == [[1, 8]]


def test_nothing_is_lowered_where_nothing_is_saved() -> None:
    way = Descent.to_budget(two_costs(limits=(0.5, None), only_budget=True))
    dense = np.full(4, 2)
    assert way.lowered(dense, range(4), 0.1)[:, 2:].tolist() == [[2, 2]] * 2
    arrived = np.array([1, 1, 2, 2])
    assert way.lowered(arrived, range(4), 0.1).shape == (0, 4)
    assert way.lowered(np.zeros(4, dtype=np.int_), range(4), 0.1).shape == (0, 4)


def test_a_level_that_saves_nothing_is_passed_over() -> None:
    space = Domain(
        top_levels=np.array([3]),
        costs=(summed((np.array([0.0, 0.4, 0.8, 0.8]),), fixed=0.2),),
        cost_floor=0.2,
    )
    assert Descent.to_end(space).lowered(np.array([3]), [0], 0.0).tolist() == [[1]]


def test_steps_are_taken_together_until_they_save_enough() -> None:
    way = Descent.to_end(domain(cost_floor=0.5))  # a level of a large site is a tenth of the way
    dense = np.full(8, 3)
    steps = way.lowered(dense, [1, 3, 5, 7], 0.1)
    assert way.joined(dense, steps, 0.15, 0.1).tolist() == [3, 2, 3, 2, 3, 3, 3, 3]
    assert way.joined(dense, steps, 0.1, 0.1).tolist() == [3, 2, 3, 3, 3, 3, 3, 3]
    assert way.joined(dense, steps, 9.0, 0.1).tolist() == [3, 2, 3, 2, 3, 2, 3, 2]


def test_the_last_of_joined_steps_is_no_larger_than_it_need_be() -> None:
    way = Descent.to_end(layered(1, 0.6))
    dense = np.array([4, 8])
    steps = np.array([[0, 8], [4, 2]])
    assert way.joined(dense, steps, 1.0, 1.0).tolist() == [0, 5]


def test_the_largest_site() -> None:
    assert Descent.to_end(layered(2, 0.6)).largest_site == pytest.approx(0.75)
