"""Recipes: published methods and plain baselines as presets of settings, to be compared."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from planner.searchers import SearcherName
from planner.settings.search import SearchSettings
from search_spaces.errors import SettingsError
from search_spaces.priors import AllocationName
from search_spaces.space.choices import Choices


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A method as settings of a search: what it sets itself stands above what the user sets."""

    searcher: SearcherName
    importance: str | None = None
    """Order in which units are cut; none, here and below: what the user says."""
    expert_importance: str | None = None
    """Order in which experts are cut."""
    sparsifier: str | None = None
    """Which weights are cut."""
    compensate: str | None = None
    """How what stays is mended."""
    prior: str | None = None
    """What a cut is guessed to do."""
    space: str | None = None
    """What it may cut."""
    description: str
    reference: str

    def settings(self, asked: SearchSettings) -> SearchSettings:
        """Give the user's settings with the recipe's own.

        Raises:
            SettingsError: Where a value breaks its rule.
        """
        own = {name: getattr(self, name) for name in _PRESET}
        own = {name: value for name, value in own.items() if value is not None}
        return SearchSettings.checked(**asked.model_dump() | self._of_use(asked) | own)

    def _of_use(self, asked: SearchSettings) -> dict[str, str]:
        """Leave out what a user asks for sparse weights or experts where the recipe has none."""
        if self.space is None:
            return {}
        choices, weight_methods = Choices.parse(self.space), asked.weight_methods
        kept = [
            weight_methods.compensation,
            weight_methods.refinement if choices.sparse else None,
            "merge" if weight_methods.merges and choices.experts else None,
        ]
        allocates = asked.prior in get_args(AllocationName) and not choices.sparse
        return {
            "compensate": ",".join(filter(None, kept)) or "none",
            "prior": "energy" if allocates else asked.prior,
        }


_PRESET = (
    "searcher",
    "importance",
    "expert_importance",
    "sparsifier",
    "compensate",
    "prior",
    "space",
)

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
    "flap": Recipe(
        searcher="one_shot",
        importance="flap",
        compensate="bias",
        prior="importance",
        space="heads,channels",
        description="heads and channels that fluctuate least, their mean put into biases",
        reference="An et al., 2024, arXiv:2312.11983",
    ),
    "llm-pruner": Recipe(
        searcher="uniform",
        importance="taylor",
        compensate="none",
        space="heads,channels",
        description="heads and channels of the least first-order change of the loss; here all "
        "layers are cut alike, where the paper leaves the first and last ones whole",
        reference="Ma et al., 2023, arXiv:2305.11627",
    ),
    "darwinlm": Recipe(
        searcher="evopress",
        importance="obs",
        compensate="obs",
        space="heads,channels",
        description="evolution over levels that are mended by second-order updates; without the "
        "training of the paper",
        reference="Tang et al., 2025, arXiv:2502.07780",
    ),
    "shortened-llama": Recipe(
        searcher="one_shot",
        prior="removal",
        space="layers",
        description="whole layers whose removal alone does the least harm",
        reference="Kim et al., 2024, arXiv:2402.02834",
    ),
    "shortgpt": Recipe(
        searcher="one_shot",
        prior="block_influence",
        space="layers",
        description="whole layers that turn their input the least",
        reference="Men et al., 2024, arXiv:2403.03853",
    ),
    "wanda": Recipe(
        searcher="uniform",
        sparsifier="wanda",
        compensate="none",
        space="sparsity",
        description="the same share of weights everywhere, the least by size times input",
        reference="Sun et al., 2024, arXiv:2306.11695",
    ),
    "sparsegpt": Recipe(
        searcher="uniform",
        sparsifier="sparsegpt",
        compensate="none",
        space="sparsity",
        description="the same share of weights everywhere, the others updated for each cut",
        reference="Frantar & Alistarh, 2023, arXiv:2301.00774",
    ),
    "owl": Recipe(
        searcher="one_shot",
        sparsifier="wanda",
        compensate="none",
        prior="owl",
        space="sparsity",
        description="fewer weights cut where more outliers are, the least by size times input",
        reference="Yin et al., 2024, arXiv:2310.05175",
    ),
    "reap": Recipe(
        searcher="uniform",
        expert_importance="reap",
        compensate="none",
        space="experts",
        description="as many experts in each layer, the last by routing weight times output",
        reference="Lasby et al., 2025, arXiv:2510.13999",
    ),
    "evoesap": Recipe(
        searcher="evopress",
        expert_importance="reap",
        compensate="none",
        space="experts",
        description="evolution of how many experts each layer keeps in one order; judged by KL, "
        "where the paper takes expected acceptance",
        reference="Liu et al., 2026, arXiv:2603.06003",
    ),
    "m-smoe": Recipe(
        searcher="uniform",
        expert_importance="frequency",
        compensate="merge",
        space="experts",
        description="as many experts in each layer, those used least merged into the others; "
        "their tokens go to whom the router has next, where the paper leads them to the merged "
        "one, and fine-tunes",
        reference="Li et al., 2024, arXiv:2310.01334",
    ),
    "moe-pruner": Recipe(
        searcher="uniform",
        sparsifier="moe_pruner",
        compensate="none",
        space="sparsity",
        description="the same share of weights everywhere, the least by size times routed input",
        reference="Xie et al., 2024, arXiv:2410.12013",
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
