"""Searchers: who proposes genomes. The names are light; what a searcher needs comes with it."""

from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from planner.searchers.domain import Domain
    from planner.searchers.protocol import Searcher, Text

__all__ = ["SearcherName", "make_searcher"]

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
    "one_shot",
    "random",
    "uniform",
]
_CLASSES: Mapping[SearcherName, str] = {
    "frontier": "frontier.searcher.Frontier",
    "nsga2": "nsga2.NSGA2",
    "smsemoa": "smsemoa.SMSEMOA",
    "tpe": "tpe.TPE",
    "optuna_nsga2": "optuna_nsga2.OptunaNSGA2",
    "evopress": "evopress.EvoPress",
    "greedy": "greedy.Greedy",
    "multipruner": "multipruner.MultiPruner",
    "bonsai": "bonsai.Bonsai",
    "knapsack": "knapsack.Knapsack",
    "one_shot": "one_shot.OneShot",
    "random": "random_search.RandomSearch",
    "uniform": "uniform.UniformSearch",
}


def make_searcher(
    name: SearcherName,
    domain: "Domain",
    *,
    population: int,
    seed: int,
    text: "Text",
    say: Callable[[str], None] = lambda _: None,
) -> "Searcher":
    """Make the searcher of a name.

    Args:
        name: Of the searcher.
        domain: Levels, costs and budget.
        population: Genomes that it proposes at a time, about.
        seed: Of all its chance.
        text: What plans are scored on.
        say: Told in a sentence what users should know.
    """
    module, _, cls = _CLASSES[name].rpartition(".")
    made = getattr(import_module(f"planner.searchers.{module}"), cls)
    offered = {"domain": domain, "population": population, "seed": seed, "text": text, "say": say}
    # each takes of these what it needs, by name
    taken = {key: value for key, value in offered.items() if key in signature(made).parameters}
    return cast("Searcher", made(**taken))
