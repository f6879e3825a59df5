"""Searchers: who proposes genomes. The names are light; numpy and pymoo come with a searcher."""

from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:
    from planner.searchers.domain import Domain
    from planner.searchers.protocol import Searcher

__all__ = ["SearcherName", "make_searcher"]

_Classical = Literal["greedy", "multipruner", "bonsai", "knapsack"]
SearcherName = Literal["nsga2", "random", "uniform", _Classical]


def make_searcher(name: SearcherName, domain: "Domain", population: int, seed: int) -> "Searcher":
    """The searcher of a name, which proposes about ``population`` genomes at a time."""
    match name:
        case "nsga2":
            from planner.searchers.nsga2 import NSGA2

            return NSGA2(domain, population, seed)
        case "random":
            from planner.searchers.random_search import RandomSearch

            return RandomSearch(domain, population, seed)
        case "uniform":
            from planner.searchers.uniform import UniformSearch

            return UniformSearch(domain, population)
        case "greedy" | "multipruner" | "bonsai" | "knapsack":
            return _make_classical(name, domain, population, seed)
        case _:
            assert_never(name)


def _make_classical(name: _Classical, domain: "Domain", population: int, seed: int) -> "Searcher":
    """The searcher of a method without a population that evolves."""
    match name:
        case "greedy":
            from planner.searchers.greedy import Greedy

            return Greedy(domain)
        case "multipruner":
            from planner.searchers.multipruner import MultiPruner

            return MultiPruner(domain)
        case "bonsai":
            from planner.searchers.bonsai import Bonsai

            return Bonsai(domain, population, seed)
        case "knapsack":
            from planner.searchers.knapsack import Knapsack

            return Knapsack(domain, population)
        case _:
            assert_never(name)
