"""Searchers: who proposes genomes. The names are light; what a searcher needs comes with it."""

from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:
    from planner.searchers.domain import Domain
    from planner.searchers.protocol import Searcher

__all__ = ["SearcherName", "make_searcher"]

SearcherName = Literal["nsga2", "smsemoa", "tpe", "optuna_nsga2", "random", "uniform"]


def make_searcher(name: SearcherName, domain: "Domain", population: int, seed: int) -> "Searcher":
    """The searcher of a name, which proposes about ``population`` genomes at a time."""
    match name:
        case "nsga2":
            from planner.searchers.nsga2 import NSGA2

            return NSGA2(domain, population, seed)
        case "smsemoa":
            from planner.searchers.smsemoa import SMSEMOA

            return SMSEMOA(domain, population, seed)
        case "tpe":
            from planner.searchers.tpe import TPE

            return TPE(domain, population, seed)
        case "optuna_nsga2":
            from planner.searchers.optuna_nsga2 import OptunaNSGA2

            return OptunaNSGA2(domain, population, seed)
        case "random":
            from planner.searchers.random_search import RandomSearch

            return RandomSearch(domain, population, seed)
        case "uniform":
            from planner.searchers.uniform import UniformSearch

            return UniformSearch(domain, population)
        case _:
            assert_never(name)
