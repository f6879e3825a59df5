"""Recipes: published methods and plain baselines as presets of settings, to be compared."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict

from planner.searchers import SearcherName
from planner.settings.parsed import Parsed
from planner.settings.search import PriorName, SearchSettings
from planner.settings.validation import validated
from planner.settings.yaml_values import parse_yaml
from search_spaces.errors import SettingsError
from search_spaces.importance import ExpertImportanceName, UnitImportanceName
from search_spaces.priors import AllocationName
from search_spaces.pruned_weights.sparsifiers import SparsifierName
from search_spaces.pruned_weights.weight_methods import WeightMethods, parse_weight_methods
from search_spaces.space.choices import Choices
from search_spaces.suggestions import suggestion

DEFAULT_RECIPES = ("uniform", "knapsack", "greedy", "evopress", "frontier")
_RECIPES_FILE = "recipes.yaml"
_WHERE_LISTED = "see them all in `planner compare --help`"
"""They are too many for a sentence."""
_ABOUT = frozenset({"description", "reference", "differs"})
"""Fields that are no settings."""


class Recipe(BaseModel):
    """A method as settings of a search: what it sets itself overrides what the user sets."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    searcher: SearcherName
    """Searcher that proposes plans."""
    importance: UnitImportanceName | None = None
    """Order in which heads and channels are pruned; none, here and below: the user's setting."""
    expert_importance: ExpertImportanceName | None = None
    """Order in which experts are pruned."""
    sparsifier: SparsifierName | None = None
    """How the weights that become zero are chosen."""
    compensate: Annotated[WeightMethods | None, Parsed(parse_weight_methods)] = None
    """How the kept weights are compensated for the pruned ones."""
    prior: PriorName | None = None
    """Sensitivity prior that the search starts from."""
    space: Annotated[Choices | None, Parsed(Choices.parse)] = None
    """What may be pruned."""
    description: str
    """What the method does, in one line."""
    reference: str
    """Where it was published."""
    differs: str | None = None
    """What differs from the publication; none: nothing that changes its plans."""

    def settings(self, user: SearchSettings) -> SearchSettings:
        """Return the user's settings with those of the recipe in their place.

        Raises:
            SettingsError: If a value breaks its rule.
        """
        preset = self.model_dump(exclude=set(_ABOUT), exclude_none=True)
        return SearchSettings.checked(**user.model_dump() | self._applicable(user) | preset)

    def _applicable(self, user: SearchSettings) -> dict[str, Any]:
        """Return the user's compensation and prior without what the recipe's space cannot use.

        A user may ask for compensation of sparse weights or experts where the recipe has none.
        """
        if self.space is None:
            return {}
        compensation, refinement, merges = user.compensate
        allocates = user.prior in get_args(AllocationName) and not self.space.sparse
        return {
            "compensate": WeightMethods(
                compensation=compensation,
                refinement=refinement if self.space.sparse else None,
                merges=merges and self.space.experts,
            ),
            "prior": "energy" if allocates else user.prior,
        }


RECIPES: dict[str, Recipe]
"""All recipes by name, in the order in which they are listed; read on first use."""


def __getattr__(name: str) -> object:
    if name != "RECIPES":
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return _shipped_recipes()


@cache
def _shipped_recipes() -> dict[str, Recipe]:
    text = files(__package__).joinpath(_RECIPES_FILE).read_text(encoding="utf-8")
    return parse_recipes(text)


def parse_recipes(text: str) -> dict[str, Recipe]:
    """Return the recipes of a YAML document, by name in its order.

    Raises:
        SettingsError: If one has an unknown field or a value that breaks its rule.
    """
    recipes = {}
    for name, fields in parse_yaml(text, "the recipes").items():
        try:
            recipes[name] = validated(Recipe, fields if isinstance(fields, dict) else {})
        except SettingsError as error:
            raise SettingsError(f"recipe `{name}`: {error}") from error
    return recipes


def chosen_recipes(names: str | Sequence[str]) -> dict[str, Recipe]:
    """Return recipes by their names, in the order asked for.

    Args:
        names: A sequence, or one text with commas.

    Raises:
        SettingsError: If no name is given, one does not exist, or one is given twice.
    """
    recipes = _shipped_recipes()
    listed = names.split(",") if isinstance(names, str) else names
    stripped_names = [name.strip() for name in listed if name.strip()]
    if not stripped_names:
        raise SettingsError(f"`recipes` must name one or more, got none; {_WHERE_LISTED}")
    for name in stripped_names:
        if name not in recipes:
            rule = f"a recipe must be one that exists, got `{name}`"
            raise SettingsError(f"{rule}; {suggestion(name, recipes, _WHERE_LISTED)}")
        if stripped_names.count(name) > 1:
            raise SettingsError(
                f"a recipe must be named once, got `{name}` {stripped_names.count(name)} times; "
                "leave out the others"
            )
    return {name: recipes[name] for name in stripped_names}
