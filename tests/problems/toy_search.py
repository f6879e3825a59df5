"""A search without a model: eight sites of four levels, additive, small enough to enumerate."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import Measurement, searched_names
from evaluators.scoring.score import Score
from planner.run import Run
from planner.runs.records import Evaluation, RoundReply
from planner.searchers import SearcherName, make_searcher
from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Answer, Ask, Searcher, Text
from planner.searching.loop import SearchLoop
from planner.searching.objectives import Objectives
from planner.searching.problem import Problem
from planner.searching.spending import Limits, StopReason
from planner.settings.budget import Budget
from planner.settings.search import SearchSettings
from tests.problems.costs import joined, summed, with_sparsity

SITES = 8
TOP = 3
DENSE = {"params": 1000.0, "size": 2000.0, "bits": 16.0, "macs": 900.0, "kv": 64.0}
EVALUATIONS = 60
SETTINGS = SearchSettings(model="toy", population=8, evaluations=EVALUATIONS, seed=3)
PROBLEM = Problem(
    budget=Budget(),
    cost_names=("params",),
    dense=DENSE,
    smallest={name: 0.2 * cost for name, cost in DENSE.items()},
)
OBJECTIVES = Objectives(PROBLEM)
_WEIGHTS = np.array([8.0, 1.0, 4.0, 0.5, 2.0, 0.3, 6.0, 1.5]) / 10
_FULL = np.array([0.05, 0.15, 0.05, 0.15, 0.05, 0.15, 0.05, 0.15])


def domain(
    cost_floor: float = 0.2, limit: float | None = 0.5, *, only_budget: bool = False
) -> Domain:
    return Domain(
        top_levels=np.full(SITES, TOP),
        costs=(
            summed(
                tuple(full * np.arange(TOP + 1) / TOP for full in _FULL),
                fixed=0.2,
                limit=limit,
            ),
        ),
        cost_floor=cost_floor,
        only_budget=only_budget,
    )


def uneven_domain() -> Domain:
    """As `domain`, with one to four levels at each site."""
    whole = domain()
    top_levels = np.array([3, 1, 2, 3, 1, 3, 2, 1])
    tables = tuple(
        table[: top + 1] for table, top in zip(whole.cost_tables, top_levels, strict=True)
    )
    cost = summed(tables, fixed=1 - sum(float(table[-1]) for table in tables), limit=0.8)
    return replace(whole, top_levels=top_levels, costs=(cost,), cost_floor=0.7)


def domain_of_one_kind() -> Domain:
    """As `domain` for one budget, with sites that all cost the same."""
    cost = summed((0.1 * np.arange(TOP + 1) / TOP,) * SITES, fixed=0.2, limit=0.5)
    return replace(domain(), costs=(cost,), cost_floor=0.45, only_budget=True)


def paired_domain(limit: float | None = 0.5, *, only_budget: bool = False) -> Domain:
    """Four widths, each before the sparsity of its weights, of which two levels cost alike."""
    shares = np.arange(TOP + 1) / TOP
    table = with_sparsity(0.2 * shares, np.array([-0.12, -0.07, -0.07, 0.0]), shares)
    pairs = (((site, site + 1), table) for site in range(0, SITES, 2))
    cost = joined(*pairs, fixed=0.2, limit=limit)
    return Domain(
        top_levels=np.full(SITES, TOP),
        costs=(cost,),
        cost_floor=0.45 if only_budget else 0.2,
        only_budget=only_budget,
        kinds=("mlp", "weights") * (SITES // 2),
    )


def shared_domain(limit: float | None = 0.5, *, only_budget: bool = False) -> Domain:
    """Six sites, each of whose costs grows with one of two widths that they share."""
    table = 0.8 / 6 * np.outer(np.arange(TOP + 1) / TOP, np.arange(1, TOP + 2) / (TOP + 1))
    pairs = (((site, SITES - 2 + site % 2), table) for site in range(SITES - 2))
    return Domain(
        top_levels=np.full(SITES, TOP),
        costs=(joined(*pairs, fixed=0.2, limit=limit),),
        cost_floor=0.45 if only_budget else 0.2,
        only_budget=only_budget,
        shared=(SITES - 2, SITES - 1),
    )


def small_domain() -> Domain:
    """Two sites of three levels: nine genomes."""
    tables = np.array([0.0, 0.2, 0.4]), np.array([0.0, 0.1, 0.4])
    cost = summed(tables, fixed=0.2, limit=0.6)
    return Domain(top_levels=np.array([2, 2]), costs=(cost,), cost_floor=0.2)


def domain_of_two_costs(cost_floor: float = 0.2) -> Domain:
    """As `domain`, with a second cost to which other sites matter."""
    first = domain(cost_floor).costs[0]
    second = summed(first.tables[1:] + first.tables[:1], fixed=0.2, limit=0.6)
    return replace(domain(cost_floor), costs=(first, second))


def kl(genomes: NDArray[np.int_]) -> NDArray[np.float64]:
    lost = 1 - genomes / TOP
    return np.asarray((_WEIGHTS[: lost.shape[-1]] * lost**2).sum(axis=-1))


def points(genomes: NDArray[np.int_], space: Domain | None = None) -> NDArray[np.float64]:
    return np.column_stack([kl(genomes), (space or domain()).all_costs(genomes)])


def all_genomes() -> NDArray[np.int_]:
    return np.array(list(product(range(TOP + 1), repeat=SITES)))


def gradients(genome: NDArray[np.int_], space: Domain | None = None) -> NDArray[np.float64]:
    """What a step to each level of each site changes, level by level, site by site."""
    found = []
    for site, top in enumerate((space or domain()).top_levels):
        for level in range(top + 1):
            moved = genome.copy()
            moved[site] = level
            found.append(float(kl(moved) - kl(genome)))
    return np.array(found)


def made(name: SearcherName, space: Domain, population: int, seed: int) -> Searcher:
    """A searcher of the toy's text."""
    text = Text(rungs=RacingScorer.rungs, tokens=100)
    return make_searcher(name, space, population=population, seed=seed, text=text)


def answer(ask: Ask, space: Domain | None = None) -> Answer:
    """Answer a searcher of a domain as the loop would, without noise."""
    if ask.gradients:
        changes = tuple(gradients(genome, space) for genome in ask.genomes)
        return Answer(objectives=np.empty((0, 0)), seen=np.empty(0), gradients=changes)
    share = RacingScorer.rungs[: ask.rungs][-1] / RacingScorer.rungs[-1]
    return Answer(objectives=points(ask.genomes, space), seen=np.full(len(ask.genomes), share))


def score_of(
    measured: dict[str, tuple[float, float]], *, seconds: float = 0.0, failure: str | None = None
) -> Score:
    """A score on two windows that has these values and standard errors."""
    return Score(
        by_window={
            name: np.array([value - error, value + error])
            for name, (value, error) in measured.items()
        },
        tokens=100,
        seconds=seconds,
        failure=failure,
    )


def rescored(value: float, standard_error: float = 0.0) -> dict[str, Measurement]:
    """One value of all that a re-scored plan must have."""
    measured = Measurement(value=value, standard_error=standard_error)
    return dict.fromkeys(searched_names(), measured)


def evaluation(genome: tuple[int, ...], seconds: float = 0.0) -> Evaluation:
    levels = np.array(genome)
    loss = float(kl(levels))
    share = float(domain().cost(levels[None])[0])
    return Evaluation(
        genome=genome,
        plan_id="plan-" + "".join(map(str, genome)),
        round=0,
        score=score_of(
            {"kl": (loss, 0.01), "nll": (3.0 + loss, 0.02), "agreement": (1 / (1 + loss), 0.03)},
            seconds=seconds,
        ),
        costs={name: share * amount for name, amount in DENSE.items()},
    )


class Scorer:
    """Scores genomes last row first; counts them; may fail after some or take its time."""

    def __init__(self, fail_after: int | None = None, pause: float = 0.0) -> None:
        self.count = 0
        self._fail_after = fail_after
        self._pause = pause

    rungs: tuple[int, ...] = (2,)
    window_tokens = 50

    def expect(self, parents: NDArray[np.int_]) -> None:
        assert parents.shape[1] == SITES

    def score(
        self, genomes: NDArray[np.int_], rung: int | None = None
    ) -> Iterator[tuple[int, Evaluation]]:
        for index in reversed(range(len(genomes))):
            if self.count == self._fail_after:
                raise KeyboardInterrupt
            time.sleep(self._pause)
            self.count += 1
            yield index, evaluation(tuple(int(level) for level in genomes[index]))

    def sample(
        self, genomes: NDArray[np.int_], windows: Sequence[int]
    ) -> Iterator[tuple[int, Evaluation]]:
        assert set(windows) <= set(range(self.rungs[-1]))
        tokens = self.window_tokens * len(windows)
        for index, whole in Scorer.score(self, genomes):
            yield index, whole.scored(replace(whole.score, tokens=tokens))

    def gradients(self, genomes: NDArray[np.int_]) -> Iterator[tuple[int, RoundReply]]:
        for index, genome in enumerate(genomes):
            if self.count == self._fail_after:
                raise KeyboardInterrupt
            self.count += 1
            yield index, RoundReply(values=gradients(genome), tokens=300, seconds=0.0)


class RacingScorer(Scorer):
    """Scores on three rungs of windows, some of which are harder than others for all plans."""

    rungs = (4, 8, 16)
    window_tokens = 100

    def score(
        self, genomes: NDArray[np.int_], rung: int | None = None
    ) -> Iterator[tuple[int, Evaluation]]:
        first, last = (0, len(self.rungs) - 1) if rung is None else (rung, rung)
        part = slice((0, *self.rungs)[first], self.rungs[last])
        difficulty = np.random.default_rng(2).lognormal(sigma=0.5, size=self.rungs[-1])
        for index, whole in super().score(genomes):
            noise = np.random.default_rng(whole.genome).normal(scale=0.02, size=self.rungs[-1])
            scored = (kl(genomes[index]) * (difficulty + noise))[part]
            by_window = dict.fromkeys(searched_names(), scored)
            tokens = 100 * (part.stop - part.start)
            yield index, whole.scored(Score(by_window=by_window, tokens=tokens, seconds=0.0))


def search(
    run: Run, scorer: Scorer, limits: Limits | None = None, name: SearcherName = "nsga2"
) -> StopReason:
    searcher = made(name, domain(), run.settings.population, run.settings.seed)
    limits = limits or Limits(evaluations=run.settings.evaluations)
    loop = SearchLoop(searcher, scorer, run, limits, OBJECTIVES, racing=run.settings.racing)
    return loop.run()


if __name__ == "__main__":
    with Run.create(Path(sys.argv[1]), SETTINGS) as slow_run:
        search(slow_run, Scorer(pause=0.02))
