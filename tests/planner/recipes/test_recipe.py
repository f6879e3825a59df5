import subprocess
import sys

import pytest

from planner.recipes.recipe import DEFAULT_RECIPES, RECIPES, Recipe, chosen_recipes, parse_recipes
from planner.settings.search import SearchSettings
from search_spaces.errors import SettingsError

# fmt: off
NAMES = [
    "frontier", "nsga2", "random", "uniform", "evopress", "evopress-bits", "autoquantize",
    "greedy", "sleb", "blockpruner", "multipruner", "bonsai", "knapsack", "tpe", "flap",
    "llm-pruner", "darwinlm",
    "shortened-llama", "shortgpt", "wanda", "sparsegpt", "owl", "reap", "evoesap", "m-smoe",
    "moe-pruner",
]
# fmt: on


def test_the_recipes_keep_their_order() -> None:
    assert list(RECIPES) == NAMES


def test_a_recipe_sets_its_own_and_leaves_the_rest() -> None:
    user = SearchSettings.checked(
        model="m", space="heads,sparsity", seed=7, tokens=99, prior="lamp"
    )
    assert RECIPES["random"].settings(user) == user.model_copy(update={"searcher": "random"})
    assert str(RECIPES["sleb"].settings(user).space) == "layers"
    assert RECIPES["sleb"].settings(user).prior == "energy"  # it has no weights to share out
    assert str(RECIPES["blockpruner"].settings(user).space) == "drops"
    assert str(RECIPES["autoquantize"].settings(user).space) == "formats"
    preset = {
        "searcher": "one_shot",
        "sparsifier": "wanda",
        "compensate": "none",
        "prior": "owl",
        "space": "sparsity",
    }
    assert RECIPES["owl"].settings(user) == SearchSettings.checked(**user.model_dump() | preset)
    # what it does not set stays as the user has it
    assert RECIPES["wanda"].settings(user).prior == "lamp"


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_settings_of_every_recipe_are_accepted(recipe: Recipe) -> None:
    settings = recipe.settings(SearchSettings.checked(model="m", budget="params<=0.7x"))
    assert settings.searcher == recipe.searcher
    assert settings.space == (recipe.space or SearchSettings(model="m").space)


def test_recipes_are_found_by_name_in_the_order_asked() -> None:
    assert list(chosen_recipes(" random, uniform ")) == ["random", "uniform"]
    assert chosen_recipes(["nsga2"]) == {"nsga2": RECIPES["nsga2"]}
    assert tuple(chosen_recipes(DEFAULT_RECIPES)) == DEFAULT_RECIPES


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("uniform,frontir", "got `frontir`; did you mean `frontier`?"),
        ("zzz", "got `zzz`; see them all in `planner compare --help`"),
        ("uniform,random,uniform", "named once, got `uniform` 2 times"),
        (" , ", "must name one or more, got none"),
        ([], "must name one or more, got none"),
    ],
)
def test_a_wrong_name_is_refused(names: str | list[str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        chosen_recipes(names)
    assert message in str(caught.value)


def test_every_recipe_says_what_it_is_and_where_it_comes_from() -> None:
    for recipe in RECIPES.values():
        assert recipe.description
        assert recipe.reference


ABOUT = "description: what it does, reference: where from"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("searcher: random, pior: owl", "`pior`; did you mean `prior`?"),
        ("searcher: randm", "`searcher` must be one of"),
        ("prior: owl", "`searcher` must be given"),
        ("searcher: random, sparsifier: sparse", "`sparsifier` must be one of"),
    ],
)
def test_a_recipe_with_a_mistake_is_refused_in_one_sentence(fields: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_recipes(f"mine: {{{fields}, {ABOUT}}}")
    assert str(caught.value).startswith("recipe `mine`: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recipes_are_read_when_they_are_first_used() -> None:
    code = (
        "import planner.recipes.recipe as module\n"
        "assert 'RECIPES' not in vars(module)\n"
        "assert module._shipped_recipes.cache_info().currsize == 0\n"
        "assert module.RECIPES is module.RECIPES"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
