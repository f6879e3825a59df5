from dataclasses import replace

import numpy as np
import pytest

from planner.searchers.frontier.expected_improvement import Budgets, pick
from planner.searchers.frontier.gradient_moves import (
    neighbours,
    predicted_changes,
    without_restoring,
)
from planner.searchers.frontier.history import History
from planner.searchers.frontier.inner_search import evolve, objectives
from planner.searchers.frontier.searcher import Frontier
from planner.searchers.frontier.surrogate import Surrogate
from planner.searchers.frontier.surrogate_check import SurrogateCheck, rank_correlation
from planner.searchers.problem.additive import additive_best
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.moves import mutate
from planner.searchers.problem.single_sites import sensitivity_tables, single_sites
from planner.searchers.protocol import Answer, Ask, Text
from tests.problems import pairwise, two_costs
from tests.problems.costs import summed
from tests.problems.toy_search import answer, domain, paired_domain
from tests.problems.trial import try_searcher

TEXT = Text(rungs=(4, 8, 16), tokens=32)


def switches(sites: int = 8, *, limit: float = 0.5, only_budget: bool = True) -> Domain:
    """Sites that are kept or dropped, of equal cost."""
    tables = tuple(np.array([0.0, 1.0 / sites]) for _ in range(sites))
    return Domain(
        top_levels=np.ones(sites, dtype=np.int_),
        costs=(summed(tables, fixed=0.0, limit=limit),),
        cost_floor=limit - 0.05,
        only_budget=only_budget,
    )


def test_the_expected_improvement_is_the_mean_improvement_over_budgets() -> None:
    budgets = Budgets(np.array([[0.3], [0.6], [0.9]]), np.array([2.0, 1.0, 0.5]))
    draws = 0.8 + 0.4 * np.random.default_rng(0).normal(size=200_000)
    found = budgets.expected_improvements(np.array([[0.5]]), np.array([0.8]), np.array([0.4]))[0]
    expected = [0.0, *(np.maximum(best - draws, 0).mean() for best in (1.0, 0.5))]
    assert found == pytest.approx(expected, abs=2e-3)


def test_several_costs_admit_only_what_is_within_all() -> None:
    budgets = Budgets(np.array([[0.5, 0.5], [0.9, 0.4]]), np.array([0.0, 0.0]))
    assert budgets.admit(np.array([[0.4, 0.45], [0.4, 0.3]])).tolist() == [
        [True, False],
        [True, True],
    ]


def test_budgets_of_a_front_span_its_costs_and_hold_the_named_one() -> None:
    spread = Budgets.of(domain(cost_floor=0.3)).limits[:, 0]
    assert spread.min() < 0.32
    assert spread.max() > 0.98
    assert 0.5 in spread
    assert Budgets.of(domain(only_budget=True)).limits.tolist() == [[0.5]]


def test_copies_of_what_is_picked_are_not_picked() -> None:
    budgets = Budgets(np.linspace(0.1, 1.0, 19)[:, None], np.full(19, 2.0))
    costs = np.array([[0.5], [0.5], [0.9]])
    picked = pick(2, budgets, costs, np.array([1.0, 1.01, 0.7]), np.full(3, 0.05))
    assert picked == [0, 2]
    assert (budgets.best == 2.0).all()


def test_restoring_is_predicted_by_the_gradient_and_pruning_by_both() -> None:
    space, genome = switches(2), np.array([0, 1])
    gradient = np.array([0.0, -0.4, 0.2, 0.0])
    sensitivities = (np.array([0.5, 0.0]), np.array([0.1, 0.0]))
    up, down = predicted_changes(space, genome, gradient, sensitivities)
    assert up.tolist() == [0.0, -0.4]
    # single-site sensitivity of what is kept, 0.1, is scaled to the gradient's 0.2
    assert down == pytest.approx([0.2, 0.0])
    raised = without_restoring((up, down), genome)
    assert raised[0][1] > 1e3
    assert raised[1].tolist() == down.tolist()


def test_neighbours_are_moves_and_swaps_with_the_sum_of_their_predictions() -> None:
    space, genome = switches(4), np.array([1, 1, 0, 0])
    predictions = tuple(np.array(t) for t in ([0.1, 0.0], [0.3, 0.0], [0.0, -0.5], [0.0, -0.2]))
    genomes, changes = neighbours(space, genome, predictions)
    change_by_genome = {
        tuple(row): change for row, change in zip(genomes.tolist(), changes, strict=True)
    }
    assert change_by_genome[0, 1, 1, 0] == pytest.approx(-0.4)
    assert change_by_genome[0, 1, 0, 0] == pytest.approx(0.1)
    assert change_by_genome[0, 0, 1, 1] == pytest.approx(-0.3)  # two swaps joined
    assert tuple(genome) not in change_by_genome


def test_the_surrogate_learns_what_adding_up_cannot() -> None:
    rng = np.random.default_rng(1)
    toy = pairwise()
    space = toy.domain()
    singles = single_sites(space, 4)
    surrogate = Surrogate(space, sensitivity_tables(space, singles, toy.kl(singles)))
    genomes = rng.integers(0, space.top_levels + 1, size=(400, len(space.top_levels)))
    known, rest = genomes[:250], genomes[250:]
    surrogate.fit(known, toy.kl(known), np.ones(len(known)))
    truth = toy.kl(rest)
    learned = rank_correlation(surrogate.predict(rest), truth)
    assert learned > 0.9
    assert learned > rank_correlation(surrogate.additive(rest), truth) + 0.05
    assert surrogate.spread(known).mean() < 0.6 * surrogate.spread(rest).mean()
    gap = np.abs(surrogate.predict(known) - np.log(toy.kl(known)))
    assert gap.mean() < 0.1


def test_a_score_on_little_text_weighs_less() -> None:
    space = switches(6)
    sensitivities = tuple(np.array([0.1, 0.0]) for _ in range(6))
    rng = np.random.default_rng(0)
    genomes = rng.integers(0, 2, size=(40, 6))
    kls = np.exp(-genomes.sum(axis=1) / 3.0)
    off = kls.copy()
    off[0] *= 3
    found = []
    for share in (0.1, 1.0):
        surrogate = Surrogate(space, sensitivities)
        seen = np.ones(40)
        seen[0] = share
        surrogate.fit(genomes, off, seen)
        found.append(float(surrogate.predict(genomes[:1])[0] - np.log(kls[0])))
    assert 0 <= found[0] < found[1]


def test_the_check_follows_the_additive_ranks_and_then_the_surrogate_again(
    notices: list[str],
) -> None:
    check = SurrogateCheck()
    truth = np.linspace(1.0, 2.0, 24)
    assert check.passed
    check.observe(-truth, truth, truth)
    assert not check.passed
    assert "surrogate -1.00" in notices[-1]
    assert "going by the sum of single-site sensitivities" in notices[-1]
    for _ in range(3):
        check.observe(truth, -truth, truth)
    assert check.passed
    assert "going by the surrogate again" in notices[-1]


def test_ranks_without_spread_correlate_with_nothing() -> None:
    assert rank_correlation(np.ones(4), np.arange(4.0)) == 0.0
    assert rank_correlation(np.arange(4.0), np.arange(4.0) ** 3) == pytest.approx(1.0)


def test_mutants_stay_within_levels_and_mostly_keep_the_cost() -> None:
    toy = pairwise()
    space, rng = toy.domain(), np.random.default_rng(0)
    genomes = rng.integers(0, space.top_levels + 1, size=(500, len(space.top_levels)))
    changed = mutate(space, genomes, rng)
    assert (changed >= 0).all()
    assert (changed <= space.top_levels).all()
    assert (changed != genomes).any(axis=1).mean() > 0.8
    assert np.median(np.abs(space.cost(changed) - space.cost(genomes))) < 0.07


def test_evolution_ends_near_the_best_expected() -> None:
    toy = pairwise()
    space, rng = toy.domain(), np.random.default_rng(0)
    start = rng.integers(0, space.top_levels + 1, size=(16, len(space.top_levels)))
    found = evolve(space, lambda genomes: np.log(toy.kl(genomes) + 1e-5), start, rng)
    assert toy.hypervolume(found) > toy.hypervolume(start) + 0.05


def test_what_is_of_no_interest_is_penalised() -> None:
    space = switches(4, limit=0.5)
    values = objectives(space, np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]]), np.zeros(3))
    assert values[0].tolist() == [0.0, 0.5]
    assert values[1, 0] > 100
    assert values[2, 0] > 100
    assert values[2, 1] == 0.5  # cheaper than allowed is no better


def test_leaders_are_the_answers_that_did_not_see_all_text() -> None:
    history = History(switches(3, limit=0.7))
    genomes = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]])
    kls, seen = np.array([0.5, 0.4, 0.3]), np.array([0.5, 0.5, 0.25])
    history.add(genomes, Answer(objectives=np.stack([kls, kls], axis=1), seen=seen))
    assert history.leaders(0.5).tolist() == [[1, 0, 1]]
    centre = history.centre(history.budgets(0.5), 0.5)
    assert centre is not None
    assert centre.tolist() == [1, 0, 1]
    assert history.centre(history.budgets(0.5), 0.5) is None  # once is enough
    history.add(genomes[1:2], Answer(objectives=np.array([[0.4, 0.4]]), seen=np.ones(1)))
    assert history.leaders(0.5).tolist() == []


@pytest.mark.parametrize("only_budget", [False, True])
def test_the_best_plans_by_the_prior_are_scored_before_anything_is_learned(
    only_budget: bool,
) -> None:
    sensitivities = tuple(weight * np.array([1.0, 0.5, 0.2, 0.0]) for weight in range(1, 9))
    space = replace(
        domain(cost_floor=0.45, only_budget=only_budget), sensitivity_tables=sensitivities
    )
    searcher = Frontier(space, 20, 0, TEXT)
    searcher.tell(singles := searcher.ask(), answer(singles, space))
    seeds = searcher.ask().genomes
    limits = [0.5] if only_budget else [0.5, 0.45, 0.725]
    for limit in limits:
        assert additive_best(space, sensitivities, [limit]).tolist() in seeds.tolist()
    assert len(np.unique(seeds, axis=0)) == len(seeds)


def test_mutants_of_pairs_mostly_keep_the_cost() -> None:
    space, rng = paired_domain(), np.random.default_rng(0)
    genomes = rng.integers(0, space.top_levels + 1, size=(300, len(space.top_levels)))
    changed = mutate(space, genomes, rng)
    assert ((changed >= 0) & (changed <= space.top_levels)).all()
    assert np.median(np.abs(space.cost(changed) - space.cost(genomes))) < 0.05


def test_a_level_without_a_change_of_cost_is_no_neighbour() -> None:
    """The weights of a dropped MLP save nothing, and two levels of the others cost alike."""
    space, genome = paired_domain(), np.array([0, 3, 3, 1, 3, 3, 3, 3])
    predictions = tuple(np.array([0.3, 0.2, 0.1, 0.0]) - 0.1 * (3 - level) for level in genome)
    genomes, _ = neighbours(space, genome, predictions)
    alone = genomes[(genomes != genome).sum(axis=1) == 1]
    assert not (alone[:, 1] != 3).any()
    assert not (alone[:, 3] == 2).any()
    assert (alone[:, 3] == 3).any()


def test_without_gradients_none_are_asked() -> None:
    toy = pairwise()
    searcher = Frontier(toy.domain(), 20, 0, Text(rungs=(4, 8, 16), tokens=32, gradients=False))
    for _ in range(12):
        ask = searcher.ask()
        assert not ask.gradients
        searcher.tell(ask, toy.answer(ask))


def test_formats_are_planned_again_by_what_they_do_around_the_budget() -> None:
    toy = pairwise()
    space = replace(toy.domain(0.6, only_budget=True), kinds=("format",) * len(toy.top_levels))

    def told(ask: Ask) -> Answer:
        """Answer gradients with what each level does at the genome, as of second order."""
        if not ask.gradients:
            return toy.answer(ask)
        moved = np.repeat(ask.genomes, (toy.top_levels + 1).sum(), axis=0)
        sites = np.repeat(np.arange(len(toy.top_levels)), toy.top_levels + 1)
        levels = np.concatenate([np.arange(top + 1) for top in toy.top_levels])
        moved[np.arange(len(moved)), sites] = levels
        changes = toy.kl(moved) - toy.kl(ask.genomes)
        return Answer(objectives=np.empty((0, 0)), seen=np.empty(0), gradients=(changes,))

    searcher = Frontier(space, 20, 0, TEXT)
    asks: list[Ask] = []
    for _ in range(12):
        asks.append(searcher.ask())
        searcher.tell(asks[-1], told(asks[-1]))
    # one score and one backward pass say what all levels do alone
    assert [len(asks[0].genomes), asks[1].gradients] == [1, True]
    alone = space.by_site(told(asks[1]).gradients[0])
    first = additive_best(space, alone, [0.6])
    at = max(i for i, ask in enumerate(asks) if ask.gradients and (ask.genomes == first).all())
    again = asks[at + 1]
    assert not again.gradients
    assert space.affords(again.genomes).all()
    assert toy.kl(again.genomes).min() < toy.kl(first[None])[0]


def test_plans_of_formats_begin_with_the_fewest_bits_and_the_budget() -> None:
    toy = pairwise()
    kinds = ("format",) * len(toy.top_levels)
    text = Text(rungs=(4, 8, 16), tokens=32, gradients=False)
    for floor in (0.25, 0.0):
        space = replace(toy.domain(0.3), kinds=kinds, cost_floor=floor)
        searcher = Frontier(space, 20, 0, text)
        singles = searcher.ask()
        alone = sensitivity_tables(space, singles.genomes, toy.kl(singles.genomes))
        searcher.tell(singles, toy.answer(singles))
        seeds = searcher.ask().genomes
        assert not (seeds == space.top_levels).all(axis=1).any()  # which is scored already
        for share in (max(floor, 1 / 32), 0.3):
            best = additive_best(space, alone, [share])
            assert (seeds == best).all(axis=1).any()


@pytest.mark.parametrize("seed", [0, 1])
def test_interacting_sites_are_solved_with_few_evaluations(seed: int) -> None:
    found = try_searcher("frontier", pairwise(), seed, most=200)
    assert found.needed(0.97) < 200  # of 57,600


def test_two_costs_are_searched_together() -> None:
    found = try_searcher("frontier", two_costs(), 0, most=250)
    rival = try_searcher("nsga2", two_costs(), 0, most=250)
    assert found.share_at(250) > rival.share_at(250) + 0.1
