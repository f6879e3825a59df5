from dataclasses import replace

import numpy as np
import pytest

from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Genomes
from planner.searchers.published.multipruner import MultiPruner
from search_spaces.space.block_options import SITE_NAMES
from tests.problems.costs import joined, summed
from tests.problems.plays import best_within, droppable, layered, play, quadratic
from tests.problems.toy_search import domain, kl, paired_domain

LAYERS = 10


def parents_of(asked: list[Genomes]) -> list[Genomes]:
    """What each round after the first started from: all that it asked lies below it."""
    return [batch.max(axis=0) for batch in asked[1:]]


def test_blocks_are_pruned_first_then_channels_then_heads_by_their_split() -> None:
    space = layered(LAYERS, 0.4, limit=0.5, width=40, heads=8)
    weights = np.random.default_rng(1).lognormal(size=2 * LAYERS)
    kl = quadratic(weights, space)
    asked = play(MultiPruner(space), space, kl)
    stages, last = [], space.top_levels
    saved = dict.fromkeys(("blocks", "mlp", "attention"), 0.0)
    for parent in [*parents_of(asked), best_within(asked, space, kl, 0.5)]:
        for site in np.flatnonzero(parent != last):
            stage = "blocks" if parent[site] == 0 else space.kinds[site]
            table = space.cost_tables[site]
            saved[stage] += table[last[site]] - table[parent[site]]
            stages.append(stage)
        last = parent
    order = {"blocks": 0, "mlp": 1, "attention": 2}
    assert [order[stage] for stage in stages] == sorted(order[stage] for stage in stages)
    # the whole cut is 0.5; a stage passes its share by less than one of its steps
    assert 0.44 * 0.5 <= saved["blocks"] < 0.44 * 0.5 + 0.06 + 1e-9
    assert saved["blocks"] + saved["mlp"] == pytest.approx(0.96 * 0.5, abs=0.6 / LAYERS / 8)
    assert sum(saved.values()) == pytest.approx(0.5, abs=0.2 / LAYERS / 8)


def test_weights_are_pruned_only_where_widths_can_save_no_more() -> None:
    space = paired_domain(limit=0.5)
    asked = play(MultiPruner(space), space, kl)
    assert (np.concatenate(asked)[:, 1::2] == 3).all()
    weights = [site for site in range(8) if space.kinds[site] == "weights"]
    cost = summed(tuple(space.cost_tables[site] for site in weights), fixed=0.2, limit=0.8)
    alone = replace(space, top_levels=space.top_levels[weights], costs=(cost,), cost_floor=0.75)
    alone = replace(alone, kinds=("weights",) * 4)
    plan = best_within(play(MultiPruner(alone), alone, kl), alone, kl, 0.8)
    assert (plan > 0).all()
    assert float(alone.cost(plan)) == pytest.approx(0.8, abs=0.07)


def test_experts_take_the_place_of_an_mlp_and_options_come_last() -> None:
    """Of each layer the attention, experts, their channels, how many run, and the shared one."""
    kinds = ("attention", "experts", "channels", "top_k", "shared") * 2
    steps = np.arange(9) / 8
    held = 0.3 * np.multiply.outer(np.outer(steps, (1 + steps) / 2), np.ones(9))
    layer = [((0,), 0.05 * steps), ((1, 2, 3), held), ((4,), 0.05 * steps)]
    tables = [(tuple(5 * i + s for s in sites), table) for i in range(2) for sites, table in layer]
    space = Domain(
        top_levels=np.full(10, 8),
        costs=(joined(*tables, fixed=0.2, limit=0.5),),
        cost_floor=0.45,
        only_budget=True,
        kinds=kinds,
    )
    kl = quadratic(np.arange(1.0, 11.0), space)
    asked = play(MultiPruner(space), space, kl)
    optional = [site for site, kind in enumerate(kinds) if kind in SITE_NAMES.values()]
    everything = np.concatenate(asked)
    assert (everything[:, optional] == 8).all()
    narrowed = (everything > 0) & (everything < 8)
    assert narrowed[:, [1, 6]].any()
    assert narrowed[:, [4, 9]].any()
    assert float(space.cost(best_within(asked, space, kl, 0.5))) == pytest.approx(0.5, abs=0.04)
    # nothing but the channels can be cut: then they are
    alone = [((0,), 0.3 * (1 + steps) / 2), ((1,), np.zeros(9))]
    space = Domain(
        top_levels=np.full(2, 8),
        costs=(joined(*alone, fixed=0.7, limit=0.9),),
        cost_floor=0.85,
        only_budget=True,
        kinds=("channels", "top_k"),
    )
    kl = quadratic(np.ones(2), space)
    assert best_within(play(MultiPruner(space), space, kl), space, kl, 0.9).tolist() == [2, 8]


@pytest.mark.parametrize("name", SITE_NAMES.values())
def test_no_option_is_a_block(name: str) -> None:
    """However what is kept may be stored and run, units go first, and options only then."""
    space = replace(droppable([0.1, 0.3] * 2, 0.3), kinds=("mlp", name) * 2)
    asked = play(MultiPruner(space), space, quadratic(np.array([5.0, 1.0, 2.0, 4.0]), space))
    assert [batch.tolist() for batch in asked[:2]] == [
        [[1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 0, 1]],
        [[0, 1, 0, 1]],
    ]
    assert (np.concatenate(asked[2:])[:, ::2] == 0).all()
    assert asked[-1].tolist() == [[0, 0, 0, 0]]


def test_the_split_can_be_chosen() -> None:
    space = layered(LAYERS, 0.4, limit=0.6, width=40, heads=8)
    kl = quadratic(np.arange(1.0, 2 * LAYERS + 1), space)
    asked = play(MultiPruner(space, split=(0.0, 1.0, 0.0)), space, kl)
    plan = best_within(asked, space, kl, 0.6)
    assert (plan[::2] == 8).all()
    assert (plan[1::2] >= 1).all()
    assert float(space.cost(plan)) == pytest.approx(0.6, abs=0.6 / LAYERS / 40)


def test_attentions_and_mlps_are_dropped_one_by_one_by_the_lowest_kl() -> None:
    space = replace(droppable([0.1, 0.3] * 2, 0.3), kinds=("attention", "mlp") * 2)
    kl = quadratic(np.array([5.0, 1.0, 2.0, 4.0]), space)
    asked = play(MultiPruner(space), space, kl)
    # not weighed by cost: the MLP of KL 1, the attention of KL 2, the MLP of KL 4
    assert [batch.tolist() for batch in asked[1:]] == [
        [[0, 0, 1, 1], [1, 0, 0, 1], [1, 0, 1, 0]],
        [[0, 0, 0, 1], [1, 0, 0, 0]],
    ]


def test_whole_layers_are_blocks() -> None:
    space = replace(droppable([0.2] * 4, 0.55), kinds=("layer",) * 4)
    asked = play(MultiPruner(space), space, quadratic(np.array([3.0, 1.0, 2.0, 4.0]), space))
    assert [len(batch) for batch in asked] == [5, 3, 2]
    assert np.concatenate(asked).tolist().count([1, 0, 0, 1]) == 1
    assert space.cost(asked[-1]) == pytest.approx([0.4, 0.4])


def test_a_stage_with_nothing_to_cut_leaves_its_share_to_the_others() -> None:
    base = layered(LAYERS, 0.4, limit=0.7, heads=8)
    free = [np.zeros(9) if len(table) == 9 and kind == "mlp" else table
            for table, kind in zip(base.cost_tables, base.kinds, strict=True)]  # fmt: skip
    cache = summed(free, fixed=0.8, limit=0.9)
    space = replace(base, costs=(cache,))
    kl = quadratic(np.arange(1.0, 21.0), space)
    plan = best_within(play(MultiPruner(space), space, kl), space, kl, 0.9)
    assert (plan[1::2] == 8).all()
    assert float(space.cost(plan)) == pytest.approx(0.9, abs=0.2 / LAYERS / 8)
    # 44 of 48 parts of 0.1 take five attentions of 0.02, and the fifth leaves heads nothing
    assert (plan[::2] == 0).sum() == 4


def test_a_block_that_passes_the_budget_alone_is_kept() -> None:
    space = layered(2, 0.9, limit=0.95, width=40, heads=8)
    asked = play(MultiPruner(space), space, quadratic(np.ones(4), space))
    assert (np.concatenate(asked) > 0).all()
    assert space.cost(np.concatenate(asked)).min() == pytest.approx(0.95, abs=0.0076)


def test_deep_cuts_go_on_where_channels_and_heads_have_run_out() -> None:
    space = layered(2, 0.2, limit=0.2)
    asked = play(MultiPruner(space), space, quadratic(np.ones(4), space))
    assert asked[-1].tolist() == [[0, 0, 0, 0]]


def test_sites_of_unknown_kind_are_dropped_and_narrowed() -> None:
    space = domain(cost_floor=0.45, limit=0.5)
    asked = play(MultiPruner(space), space, kl)
    costs = space.cost(np.concatenate(asked))
    assert costs.min() == pytest.approx(0.5, abs=0.05)
    assert costs.max() == pytest.approx(1.0)


def test_without_a_budget_it_goes_to_the_floor() -> None:
    space = layered(4, 0.6, width=40)
    asked = play(MultiPruner(space), space, quadratic(np.ones(8), space))
    assert space.cost(np.concatenate(asked)).min() == pytest.approx(0.6, abs=0.0125)
