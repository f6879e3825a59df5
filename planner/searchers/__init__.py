"""Searchers: who proposes genomes.

The names are light, so that settings read them without pymoo, optuna or scipy; a searcher's module
is imported when the searcher is made.
"""

from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:
    from planner.searchers.problem.domain import Domain
    from planner.searchers.protocol import Searcher, Text

__all__ = ["TO_ONE_LIMIT", "SearcherName", "make_searcher"]

SearcherName = Literal[
    "frontier",
    "nsga2",
    "smsemoa",
    "tpe",
    "optuna_nsga2",
    "evopress",
    "greedy",
    "multipruner",
    "bonsai",
    "knapsack",
    "autoquantize",
    "one_shot",
    "random",
    "uniform",
]
TO_ONE_LIMIT: frozenset[SearcherName] = frozenset({"evopress", "multipruner"})
"""Searchers that go to one limit on a cost, and cannot do without."""


def make_searcher(  # noqa: C901, PLR0911, PLR0912  (one case a name)
    name: SearcherName,
    domain: "Domain",
    *,
    population: int,
    seed: int,
    text: "Text",
) -> "Searcher":
    """Return a new searcher.

    Args:
        name: Its name.
        domain: Levels, costs and budget.
        population: About how many genomes it proposes at a time.
        seed: Seed of everything it draws.
        text: What plans are scored on.

    Returns:
        The searcher, before its first ask.
    """
    match name:
        case "frontier":
            from planner.searchers.frontier.searcher import Frontier

            return Frontier(domain, population, seed, text)
        case "nsga2":
            from planner.searchers.adapters.pymoo import NSGA2

            return NSGA2(domain, population, seed)
        case "smsemoa":
            from planner.searchers.adapters.pymoo import SMSEMOA

            return SMSEMOA(domain, population, seed)
        case "tpe":
            from planner.searchers.adapters.optuna import TPE

            return TPE(domain, population, seed)
        case "optuna_nsga2":
            from planner.searchers.adapters.optuna import OptunaNSGA2

            return OptunaNSGA2(domain, population, seed)
        case "evopress":
            from planner.searchers.published.evopress import EvoPress

            return EvoPress(domain, seed, text)
        case "greedy":
            from planner.searchers.published.greedy import Greedy

            return Greedy(domain)
        case "multipruner":
            from planner.searchers.published.multipruner import MultiPruner

            return MultiPruner(domain)
        case "bonsai":
            from planner.searchers.published.bonsai import Bonsai

            return Bonsai(domain, population, seed)
        case "knapsack":
            from planner.searchers.published.knapsack import Knapsack

            return Knapsack(domain, population)
        case "autoquantize":
            from planner.searchers.published.autoquantize import AutoQuantize

            return AutoQuantize(domain, population, text)
        case "one_shot":
            from planner.searchers.published.one_shot import OneShot

            return OneShot(domain, population)
        case "random":
            from planner.searchers.baselines.random_search import RandomSearch

            return RandomSearch(domain, population, seed)
        case "uniform":
            from planner.searchers.baselines.uniform import UniformSearch

            return UniformSearch(domain, population)
        case _:
            assert_never(name)
