"""What every searcher must keep to; a new one adds its name to ``SearcherName`` and is held."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from planner.run import Run
from planner.runs.records import Evaluation
from planner.searchers import SearcherName
from planner.searchers.protocol import Ask
from search_spaces.space.space import Genome
from tests import ROOT
from tests.problems.asking import (
    as_json,
    asked,
    best_within,
    hypervolume,
    repeats,
    scored,
)
from tests.problems.toy_search import (
    SETTINGS,
    RacingScorer,
    all_genomes,
    domain,
    domain_of_one_kind,
    domain_of_two_costs,
    kl,
    paired_domain,
    search,
    shared_domain,
    small_domain,
    uneven_domain,
)

NAMES: tuple[SearcherName, ...] = get_args(SearcherName)
EVALUATIONS = 224
"""Enough for evolution to tell itself from luck on a space of 65,536 genomes."""

WITHOUT_CHANCE = frozenset(
    {"uniform", "greedy", "knapsack", "autoquantize", "multipruner", "one_shot"}
)
"""The seed changes nothing."""
BASELINES = frozenset({"uniform", "random", "one_shot"})
"""They learn nothing, so that nothing is asked of what they find."""
LEARNING = [name for name in NAMES if name not in BASELINES]
OF_ONE_BUDGET = frozenset({"evopress", "multipruner"})
"""All that they propose costs about what the budget allows."""
OF_ONE_WAY = OF_ONE_BUDGET | {"bonsai"}
"""They go down to one budget, with few plans on the way: too few for a front."""
WITHOUT_SPARSITY = frozenset({"multipruner"})
"""They leave weights dense where widths can give what the budget asks for."""
SAMPLING = frozenset({"evopress"})
"""They score the same genomes again on other text, for as long as they are let."""
BY_POPULATIONS = frozenset({"nsga2", "smsemoa", "tpe", "optuna_nsga2", "random"})
"""They ask for a whole population each time."""


@cache
def toy_asks(name: SearcherName, seed: int) -> list[Ask]:
    return asked(name, seed, EVALUATIONS)


@pytest.mark.parametrize("name", NAMES)
def test_genomes_are_integer_levels_within_bounds_and_new(name: SearcherName) -> None:
    space = uneven_domain()
    for asks, tops in (
        (toy_asks(name, 1), domain().top_levels),
        (asked(name, 1, 64, space), space.top_levels),
    ):
        assert len(asks[0].genomes) > 0
        for ask in asks:
            assert ask.genomes.shape[1:] == (8,)
            assert np.issubdtype(ask.genomes.dtype, np.integer)
            assert (ask.genomes >= 0).all()
            assert (ask.genomes <= tops).all()
        assert not repeats(asks)


@pytest.mark.parametrize("name", sorted(BY_POPULATIONS))
def test_a_population_is_asked_each_time(name: SearcherName) -> None:
    assert {len(ask.genomes) for ask in toy_asks(name, 1)} == {16}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OF_ONE_BUDGET])
def test_the_dense_end_and_the_floor_are_both_looked_at(name: SearcherName) -> None:
    space = domain(cost_floor=0.5)
    costs = space.cost(scored(asked(name, 1, 128, space)))
    assert costs.min() >= 0.5 * 0.9
    assert costs.min() < 0.6
    assert costs.max() > 0.85


@pytest.mark.parametrize("name", NAMES)
def test_the_best_of_one_budget_is_within_it_and_no_worse_than_uniform(name: SearcherName) -> None:
    space = domain(cost_floor=0.45, limit=0.5, only_budget=True)
    genomes = scored(asked(name, 1, 128, space))
    within = genomes[space.affords(genomes)]
    best = within[np.argmin(kl(within))]
    assert 0.45 * 0.9 <= space.cost(best[None])[0] <= 0.5
    if name in LEARNING:
        assert kl(best) < kl(space.uniform_within())


@pytest.mark.parametrize("name", NAMES)
def test_a_width_and_its_sparsity_are_searched_together(name: SearcherName) -> None:
    space = paired_domain(only_budget=True)
    asks = asked(name, 1, 128, space)
    genomes = scored(asks)
    assert not repeats(asks)
    assert space.affords(genomes).any()
    if name in LEARNING and name not in WITHOUT_SPARSITY:
        assert best_within(genomes, space) < kl(space.uniform_within())
    if name == "evopress":
        assert all(space.affords(ask.genomes).all() for ask in asks)


@pytest.mark.parametrize("name", NAMES)
def test_widths_that_sites_share_are_searched_with_them(name: SearcherName) -> None:
    space = shared_domain(only_budget=True)
    asks = asked(name, 1, 128, space)
    genomes = scored(asks)
    assert not repeats(asks)
    assert space.affords(genomes).any()
    if name in LEARNING:
        assert best_within(genomes, space) < kl(space.uniform_within())


@pytest.mark.parametrize("name", [n for n in LEARNING if n not in OF_ONE_WAY])
def test_the_front_of_widths_and_sparsities_is_better_than_by_chance(name: SearcherName) -> None:
    space = paired_domain()
    asks = asked(name, 1, EVALUATIONS, space)
    count = sum(len(ask.genomes) for ask in asks)
    baseline = scored(asked("random", 1, count, space))[:count]
    assert hypervolume(scored(asks), space) > hypervolume(baseline, space)


@pytest.mark.parametrize("name", sorted(OF_ONE_BUDGET & set(NAMES)))
def test_searchers_of_one_budget_stay_at_it(name: SearcherName) -> None:
    space = domain(limit=0.5)
    genomes = scored(toy_asks(name, 1))
    costs = space.cost(genomes)
    step = max(float(np.diff(table).max()) for table in space.cost_tables)
    assert costs[-1] <= 0.5
    assert costs[-1] > 0.5 - step


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_repeats(name: SearcherName) -> None:
    again = asked(name, 5, 64)
    assert as_json(again) == as_json(toy_asks(name, 5)[: len(again)])


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_differs_where_there_is_chance(name: SearcherName) -> None:
    differs = as_json(toy_asks(name, 5)) != as_json(toy_asks(name, 1))
    assert differs == (name not in WITHOUT_CHANCE)


@pytest.fixture(scope="module")
def asked_elsewhere() -> dict[str, str]:
    """What each searcher asks first, in another process."""
    code = (
        "import json; from tests.contracts import test_searchers as t;"
        "print(json.dumps({name: t.as_json(t.asked(name, 5, 64)) for name in t.NAMES}))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    told: dict[str, str] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("name", NAMES)
def test_another_process_agrees(name: SearcherName, asked_elsewhere: dict[str, str]) -> None:
    elsewhere = asked_elsewhere[name]
    assert elsewhere == as_json(toy_asks(name, 5)[: len(json.loads(elsewhere))])


@pytest.mark.parametrize("name", NAMES)
def test_a_small_domain_runs_out_without_repeating(name: SearcherName) -> None:
    asks = asked(name, 0, 1000, small_domain(), most=60)
    assert len(scored(asks)) >= 1
    assert not repeats(asks)
    if name not in SAMPLING:
        assert asks[-1].genomes.shape == (0, 2)


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_search_is_resumed_as_if_it_had_not_been(
    name: SearcherName, tmp_path: Path
) -> None:
    whole, settings = RacingScorer(), SETTINGS.model_copy(update={"evaluations": 36})
    with Run.create(tmp_path / "whole", settings) as run:
        search(run, whole, name=name)
        expected = contents(run)
    for number, share in enumerate((0.1, 0.6)):
        folder, done = tmp_path / str(number), round(share * whole.count)
        with Run.create(folder, settings) as run, pytest.raises(KeyboardInterrupt):
            search(run, RacingScorer(fail_after=done), name=name)
        rest = RacingScorer()
        with Run.resume(folder, settings) as run:
            search(run, rest, name=name)
            assert contents(run) == expected
        assert rest.count == whole.count - done


def contents(run: Run) -> tuple[list[Evaluation], list[tuple[int, Genome, list[float]]]]:
    """All that a run's store holds, in an order of its own."""
    replies = [(*key, [float(v) for v in reply.values]) for key, reply in run.replies().items()]
    return sorted(run.landed(), key=lambda found: found.genome), sorted(replies)


@pytest.mark.parametrize("name", LEARNING)
def test_it_improves_on_random(name: SearcherName) -> None:
    """At equal evaluations, on a problem whose front is known; over two seeds."""
    only = name in OF_ONE_BUDGET
    # some of them never trade one kind of site for another
    space = domain_of_one_kind() if only else domain()
    found, baseline = [], []
    for seed in (1, 5):
        asks = asked(name, seed, EVALUATIONS, space) if only else toy_asks(name, seed)
        found.append(scored(asks))
        count = sum(len(ask.genomes) for ask in asks)
        baseline.append(scored(asked("random", seed, count, space))[:count])
    if only:
        ours, theirs = np.concatenate(found), np.concatenate(baseline)
        assert best_within(ours, space) <= best_within(theirs, space)
    else:
        assert sum(map(hypervolume, found)) > sum(map(hypervolume, baseline))


@pytest.mark.parametrize("name", ["nsga2", "smsemoa"])
def test_evolution_nears_the_known_front(name: SearcherName) -> None:
    best = hypervolume(all_genomes())
    for seed in range(3):
        assert hypervolume(scored(asked(name, seed, 640))) > 0.975 * best


@pytest.mark.parametrize("name", NAMES)
def test_two_costs_are_traded_at_once(name: SearcherName) -> None:
    space = domain_of_two_costs()
    asks = asked(name, 2, 128, space)
    genomes = scored(asks)
    assert not repeats(asks)
    assert space.affords(genomes).any() or name in BASELINES
    if name not in LEARNING:
        return
    count = sum(len(ask.genomes) for ask in asks)
    baseline = scored(asked("random", 2, count, space))[:count]
    if name in OF_ONE_WAY:
        assert best_within(genomes, space) <= best_within(baseline, space)
    else:
        assert hypervolume(genomes, space) > hypervolume(baseline, space)


@pytest.mark.parametrize("name", NAMES)
def test_it_writes_nothing_on_the_terminal(
    name: SearcherName, capfd: pytest.CaptureFixture[str]
) -> None:
    asked(name, 3, 48)
    assert capfd.readouterr() == ("", "")
