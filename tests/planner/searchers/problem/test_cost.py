import numpy as np
import pytest

from planner.searchers.problem.domain import Domain
from tests.problems.costs import joined, summed, with_sparsity


def sparse() -> Domain:
    """A layer that is kept or dropped, an MLP of two steps, and the sparsity of both.

    Sparsity can save half the layer's cost, 0.4, and all of the MLP's, 0.3.
    """
    layer = with_sparsity(np.array([0.0, 0.4]), np.array([-0.2, -0.1, 0.0]), np.array([0.0, 1.0]))
    mlp = with_sparsity(
        np.array([0.0, 0.1, 0.3]),
        np.array([-0.3, -0.15, -0.15, 0.0]),
        np.array([0.0, 1 / 3, 1.0]),
    )
    cost = joined(((0, 1), layer), ((2, 3), mlp), fixed=0.3)
    return Domain(top_levels=np.array([1, 2, 2, 3]), costs=(cost,), cost_floor=0.4)


def test_what_sparsity_saves_shrinks_with_the_width_by_hand() -> None:
    genomes = np.array(
        [[1, 2, 2, 3], [1, 0, 2, 3], [0, 0, 2, 3], [1, 2, 2, 0], [1, 2, 1, 0], [1, 2, 1, 1],
         [1, 2, 0, 0], [0, 1, 0, 1], [1, 1, 1, 2]]
    )  # fmt: skip
    by_hand = [1.0, 0.8, 0.6, 0.7, 0.7, 0.75, 0.7, 0.3, 0.65]
    assert sparse().cost(genomes) == pytest.approx(by_hand)
    assert float(sparse().cost(genomes[-1])) == pytest.approx(0.65)
    # some of each genome, in any shape
    assert sparse().cost(genomes.reshape(3, 3, 4)).shape == (3, 3)


def test_a_table_along_a_site_has_the_differences_of_whole_genomes() -> None:
    space, rng = sparse(), np.random.default_rng(0)
    for genome in rng.integers(0, space.top_levels + 1, size=(40, 4)):
        for site, top in enumerate(space.top_levels):
            rows = np.tile(genome, (top + 1, 1))
            rows[:, site] = np.arange(top + 1)
            along = space.costs[0].along(site, genome)
            assert along - along[0] == pytest.approx(space.cost(rows) - space.cost(rows[0]))


def test_tables_are_those_with_all_else_dense() -> None:
    (cost,) = sparse().costs
    by_hand = [[0.0, 0.4], [0.2, 0.3, 0.4], [0.0, 0.1, 0.3], [0.0, 0.15, 0.15, 0.3]]
    for table, wanted in zip(cost.tables, by_hand, strict=True):
        assert table == pytest.approx(wanted)


def test_a_joint_may_have_any_sites_in_any_order() -> None:
    """A layer with the weights of its attention and of its MLP, and others between these."""
    table = np.zeros((2, 2, 2))
    table[1] = 0.8 - np.array([[0.4, 0.1], [0.3, 0.0]])
    cost = joined(
        ((0, 2, 4), table), ((3,), np.array([0.0, 0.05])), ((1,), np.zeros(2)), fixed=0.2
    )
    space = Domain(top_levels=np.ones(5, dtype=np.int_), costs=(cost,), cost_floor=0.2)
    genomes = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 1, 0], [0, 1, 1, 0, 0], [1, 0, 0, 0, 1]])
    assert space.cost(genomes) == pytest.approx([0.6, 0.25, 0.2, 0.9])
    assert space.cost(genomes.reshape(2, 2, 5)).shape == (2, 2)
    assert cost.along(0, np.array([1, 0, 0, 0, 1])) == pytest.approx([0.0, 0.7])
    assert cost.along(4, np.array([1, 0, 0, 0, 0])) == pytest.approx([0.4, 0.7])
    assert cost.along(3, np.zeros(5, dtype=np.int_)) == pytest.approx([0.0, 0.05])


def test_each_site_is_in_a_joint_and_all_costs_part_them_alike() -> None:
    one, two = np.zeros(2), np.zeros((2, 2))
    for tables in ([((0,), one), ((2,), one)], [((0, 1), one)]):
        with pytest.raises(AssertionError):
            joined(*tables, fixed=1.0)
    costs = joined(((0, 1), two), fixed=1.0), summed((one, one), fixed=1.0)
    with pytest.raises(AssertionError):
        Domain(top_levels=np.ones(2, dtype=np.int_), costs=costs, cost_floor=0.2)


def test_only_what_is_shared_is_in_joints_of_several_others() -> None:
    two = np.zeros((2, 2))
    costs = (joined(((0, 2), two), ((1, 2), two), fixed=1.0),)
    tops = np.ones(3, dtype=np.int_)
    Domain(top_levels=tops, costs=costs, cost_floor=0.2, shared=(2,))
    with pytest.raises(AssertionError):
        Domain(top_levels=tops, costs=costs, cost_floor=0.2)
