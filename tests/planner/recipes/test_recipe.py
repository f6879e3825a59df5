import pytest

from planner.recipes.recipe import DEFAULT_RECIPES, RECIPES, Recipe, chosen_recipes
from planner.settings.search import SearchSettings
from search_spaces.errors import SettingsError


def test_a_recipe_sets_its_own_and_leaves_the_rest() -> None:
    asked = SearchSettings(model="m", space="heads,sparsity", seed=7, tokens=99, prior="lamp")
    assert RECIPES["random"].settings(asked) == asked.model_copy(update={"searcher": "random"})
    assert RECIPES["sleb"].settings(asked).space == "layers"
    assert RECIPES["sleb"].settings(asked).prior == "energy"  # it has no weights to share out
    assert RECIPES["blockpruner"].settings(asked).space == "drops"
    own = {
        "searcher": "one_shot",
        "sparsifier": "wanda",
        "compensate": "none",
        "prior": "owl",
        "space": "sparsity",
    }
    assert RECIPES["owl"].settings(asked) == asked.model_copy(update=own)
    # what it does not set stays as the user has it
    assert RECIPES["wanda"].settings(asked).prior == "lamp"


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_asks_for_what_there_is(recipe: Recipe) -> None:
    settings = recipe.settings(SearchSettings(model="m", budget="params<=0.7x"))
    assert settings.searcher == recipe.searcher
    assert settings.space == (recipe.space or "heads,channels,drops,experts")


def test_recipes_are_found_by_name_in_the_order_asked() -> None:
    assert list(chosen_recipes(" random, uniform ")) == ["random", "uniform"]
    assert chosen_recipes(["nsga2"]) == {"nsga2": RECIPES["nsga2"]}
    assert tuple(chosen_recipes(DEFAULT_RECIPES)) == DEFAULT_RECIPES


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("uniform,frontir", "got `frontir`; did you mean `frontier`?"),
        ("zzz", "got `zzz`; choose from frontier, nsga2"),
        ("uniform,random,uniform", "named once, got `uniform` 2 times"),
        (" , ", "must name one or more, got none"),
        ([], "must name one or more, got none"),
    ],
)
def test_a_wrong_name_is_refused(names: str | list[str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        chosen_recipes(names)
    assert said in str(caught.value)


def test_every_recipe_says_what_it_is_and_where_it_comes_from() -> None:
    for recipe in RECIPES.values():
        assert recipe.description
        assert recipe.reference
