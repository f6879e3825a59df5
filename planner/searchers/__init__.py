"""Searchers: who proposes genomes. The names are light; numpy and pymoo come with a searcher."""

from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:
    from planner.searchers.domain import Domain
    from planner.searchers.protocol import Searcher, Text

__all__ = ["SearcherName", "make_searcher"]

SearcherName = Literal["frontier", "nsga2", "evopress", "random", "uniform"]


def make_searcher(
    name: SearcherName, domain: "Domain", population: int, seed: int, text: "Text"
) -> "Searcher":
    """The searcher of a name, which proposes about ``population`` genomes at a time."""
    match name:
        case "frontier":
            from planner.searchers.frontier.searcher import Frontier

            return Frontier(domain, population, seed)
        case "evopress":
            from planner.searchers.evopress import EvoPress

            return EvoPress(domain, seed, text)
        case "nsga2":
            from planner.searchers.nsga2 import NSGA2

            return NSGA2(domain, population, seed)
        case "random":
            from planner.searchers.random_search import RandomSearch

            return RandomSearch(domain, population, seed)
        case "uniform":
            from planner.searchers.uniform import UniformSearch

            return UniformSearch(domain, population)
        case _:
            assert_never(name)
