import numpy as np
import pytest

from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Answer, Ask, Text
from planner.searchers.published.evopress import INITIAL, OFFSPRING, EvoPress
from tests.problems.costs import summed

TEXT = Text(rungs=(16, 64), tokens=128)


def drops(sites: int = 20) -> Domain:
    """Sites that are kept or dropped, of two kinds that cost differently."""
    full = np.where(np.arange(sites) % 2, 0.06, 0.02)
    return Domain(
        top_levels=np.ones(sites, dtype=np.int_),
        costs=(summed(tuple(np.array([0.0, f]) for f in full), fixed=0.2, limit=0.7),),
        cost_floor=0.6,
    )


def answer(ask: Ask) -> Answer:
    """Late sites matter more."""
    kl = ((1 - ask.genomes) * np.arange(1, ask.genomes.shape[1] + 1)).sum(axis=1) / 10
    return Answer(
        objectives=np.stack([kl, drops().cost(ask.genomes)], axis=1), seen=np.ones(len(kl))
    )


def play(seed: int, asks: int) -> list[Ask]:
    searcher = EvoPress(drops(), seed, TEXT)
    asked = []
    for _ in range(asks):
        ask = searcher.ask()
        searcher.tell(ask, answer(ask))
        asked.append(ask)
    return asked


def test_selection_goes_as_published() -> None:
    first, shown, *generations = play(0, 20)
    assert (len(first.genomes), len(first.windows)) == (INITIAL, 4)
    assert (len(shown.genomes), shown.windows, shown.counted) == (1, (), False)
    samples = [ask for ask in generations if ask.windows]
    assert {len(ask.windows) for ask in samples[::2]} == {4}
    assert {len(ask.windows) for ask in samples[1::2]} == {16}
    assert {len(ask.genomes) for ask in samples[::2]} == {OFFSPRING}
    assert all(len(ask.genomes) in (2, 3) for ask in samples[1::2])  # its parent may be a survivor
    assert len({ask.windows for ask in samples}) == len(samples)  # each drawn anew


def test_every_plan_costs_exactly_the_same_kind_by_kind() -> None:
    genomes = np.concatenate([ask.genomes for ask in play(1, 30)])
    assert len({tuple(row[0::2].tolist()) for row in genomes}) > 1
    assert np.unique(genomes[:, 0::2].sum(axis=1)).size == 1
    assert np.unique(genomes[:, 1::2].sum(axis=1)).size == 1
    assert (drops().cost(genomes) <= 0.7 + 1e-9).all()


def test_a_parent_is_replaced_only_by_a_better_plan() -> None:
    parents = [ask.genomes[0] for ask in play(2, 120) if not ask.windows]
    kls = [float(answer(Ask(genomes=parent[None])).objectives[0, 0]) for parent in parents]
    assert len(kls) > 2
    assert kls == sorted(kls, reverse=True)
    assert kls[-1] < kls[0]


def test_a_short_text_is_sampled_as_far_as_it_goes() -> None:
    searcher = EvoPress(drops(), 0, Text(rungs=(2,), tokens=4096))
    ask = searcher.ask()
    assert len(ask.windows) == 1
    searcher.tell(ask, answer(ask))
    searcher.tell(searcher.ask(), answer(searcher.ask()))
    assert len(searcher.ask().windows) == 1


def test_levels_move_one_step_at_a_time() -> None:
    tables = tuple(np.linspace(0.0, 0.1, 5) for _ in range(8))
    space = Domain(
        top_levels=np.full(8, 4),
        costs=(summed(tables, fixed=0.2, limit=0.6),),
        cost_floor=0.5,
    )
    searcher = EvoPress(space, 0, TEXT)
    asked = []
    for _ in range(8):
        ask = searcher.ask()
        asked.append(ask)
        kl = ((4 - ask.genomes) ** 2).sum(axis=1) / 10.0
        searcher.tell(ask, Answer(objectives=np.stack([kl, kl], axis=1), seen=np.ones(len(kl))))
    sums = {int(row.sum()) for ask in asked for row in ask.genomes}
    assert len(sums) == 1
    parent = asked[1].genomes[0]
    offspring = asked[2].genomes
    assert (np.abs(offspring - parent).sum(axis=1) <= 6).all()


def test_another_seed_draws_other_text() -> None:
    assert play(0, 1)[0].windows != play(1, 1)[0].windows


@pytest.mark.parametrize("seed", [3, 4])
def test_the_same_seed_repeats(seed: int) -> None:
    for first, second in zip(play(seed, 15), play(seed, 15), strict=True):
        assert (first.genomes == second.genomes).all()
        assert first.windows == second.windows
