"""Recipes: published methods and plain baselines as presets of settings, to be compared."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from planner.searchers import SearcherName
from planner.settings import SearchSettings
from search_spaces.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A method as settings of a search: what it sets itself stands above what the user sets."""

    searcher: SearcherName
    space: str | None = None
    """What it may cut; none: what the user says."""
    description: str
    reference: str

    def settings(self, asked: SearchSettings) -> SearchSettings:
        """Give the user's settings with the recipe's own.

        Raises:
            SettingsError: Where a value breaks its rule.
        """
        own = {"searcher": self.searcher, "space": self.space or asked.space}
        return SearchSettings.checked(**asked.model_dump() | own)


RECIPES: dict[str, Recipe] = {
    "frontier": Recipe(
        searcher="frontier",
        description="additive and greedy plans, then a surrogate that learns from all scores",
        reference="this planner's own",
    ),
    "nsga2": Recipe(
        searcher="nsga2",
        description="non-dominated sorting genetic algorithm",
        reference="Deb et al., 2002, doi:10.1109/4235.996017",
    ),
    "random": Recipe(
        searcher="random",
        description="uneven plans drawn at random",
        reference="Bergstra & Bengio, 2012, Journal of Machine Learning Research 13",
    ),
    "uniform": Recipe(
        searcher="uniform",
        description="the same share cut everywhere",
        reference="the plainest baseline",
    ),
    "evopress": Recipe(
        searcher="evopress",
        description="(1+λ) evolution at exactly the budget, which selects on more and more text",
        reference="Sieberling et al., 2024, arXiv:2410.14649",
    ),
    "greedy": Recipe(
        searcher="greedy",
        description="again and again the cut that costs the least quality",
        reference="Zhang et al., 2024 (FinerCut), arXiv:2405.18218",
    ),
    "sleb": Recipe(
        searcher="greedy",
        space="layers",
        description="greedy removal of whole layers",
        reference="Song et al., 2024, arXiv:2402.09025",
    ),
    "blockpruner": Recipe(
        searcher="greedy",
        space="drops",
        description="greedy removal of whole attentions and MLPs",
        reference="Zhong et al., 2024, arXiv:2406.10594",
    ),
    "multipruner": Recipe(
        searcher="multipruner",
        description="attentions and MLPs one by one, then MLP channels, then attention heads",
        reference="Muñoz et al., 2025, arXiv:2501.09949",
    ),
    "bonsai": Recipe(
        searcher="bonsai",
        description="regression on the scores of random sub-models",
        reference="Dery et al., 2024, arXiv:2402.05406",
    ),
    "knapsack": Recipe(
        searcher="knapsack",
        description="each site scored alone, then the exact best plan if these scores added up",
        reference="Sinha & Zoltners, 1979, doi:10.1287/opre.27.3.503",
    ),
    "tpe": Recipe(
        searcher="tpe",
        description="tree-structured Parzen estimator for several objectives, by Optuna",
        reference="Ozaki et al., 2020, doi:10.1145/3377930.3389817",
    ),
}
DEFAULT_RECIPES = ("uniform", "knapsack", "greedy", "evopress", "frontier")


def chosen_recipes(names: str | Sequence[str]) -> dict[str, Recipe]:
    """Give recipes by their names.

    Args:
        names: A sequence, or one text with commas.

    Raises:
        SettingsError: None named, one that does not exist, or one twice.
    """
    listed = names.split(",") if isinstance(names, str) else names
    wanted = [name.strip() for name in listed if name.strip()]
    if not wanted:
        raise SettingsError(
            f"`recipes` must name one or more, got none; choose from {', '.join(RECIPES)}"
        )
    for name in wanted:
        if name not in RECIPES:
            close = difflib.get_close_matches(name, RECIPES, n=1)
            known = f"choose from {', '.join(RECIPES)}"
            remedy = f"did you mean `{close[0]}`?" if close else known
            raise SettingsError(f"a recipe must be one that exists, got `{name}`; {remedy}")
        if wanted.count(name) > 1:
            raise SettingsError(
                f"a recipe must be named once, got `{name}` {wanted.count(name)} times; "
                "leave out the others"
            )
    return {name: RECIPES[name] for name in wanted}
