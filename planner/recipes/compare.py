"""Several recipes on one model: same tokens, importance, budget and limits, each its own run.

A comparison is a run without a search: its folder keeps what all recipes share, and the folder of
each recipe inside it is a whole run that stands alone.
"""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluators.runtime.allocator import release_pages
from planner.preparation.dense_model import cost_model
from planner.preparation.order_file import load_space
from planner.preparation.prepare import (
    COMMON_FILES,
    PREPARED_FILES,
    preparation_key,
    with_search_space,
)
from planner.preparation.prepared_model import PreparedModel
from planner.preparation.validate_space import check_space
from planner.recipes.recipe import DEFAULT_RECIPES, Recipe, chosen_recipes
from planner.recipes.recipe_comparison import RecipeComparison
from planner.runs.folder import (
    DATABASE_FILE,
    LEVELS_FOLDER,
    SETTINGS_FILE,
    WEIGHTS_FILE,
    carry,
)
from planner.runs.metadata import RunMetadata
from planner.runs.run_store import RunStore
from planner.runs.store import Store
from planner.searching.search_model import (
    check_resumable,
    open_prepared,
    open_run,
    search_prepared,
)
from planner.settings.search import SearchSettings
from search_spaces.errors import BudgetError, RunError, SettingsError
from search_spaces.progress import NO_PROGRESS, Progress

logger = logging.getLogger(__name__)


def compare(
    model: str,
    *,
    budget: str,
    out: str | Path,
    recipes: str | Sequence[str] = DEFAULT_RECIPES,
    resume: bool = False,
    progress: Progress = NO_PROGRESS,
    **options: Any,
) -> RecipeComparison:
    """Search a model by several recipes under the same budget and limits.

    Args:
        model: A HuggingFace folder, a hub name or a ``.gguf`` file.
        budget: With a limit on one cost or more.
        out: The comparison's folder, new or empty; with ``resume`` that of a comparison.
        recipes: Names in `planner.recipes.recipe.RECIPES`.
        resume: Go on with the comparison in ``out``: what is finished is not run again, and
            recipes may join.
        progress: Receives the progress.
        options: Any other field of `SearchSettings`; what a recipe sets itself overrides it.

    Returns:
        The comparison, which is written to ``out`` too.

    Raises:
        InputError: For whatever the user can fix.
    """
    settings = SearchSettings.checked(model=model, budget=budget, **options)
    chosen = chosen_recipes(recipes)
    return run_comparison(settings, chosen, Path(out), resume=resume, progress=progress)


def run_comparison(
    settings: SearchSettings,
    recipes: Mapping[str, Recipe],
    out: Path,
    *,
    resume: bool,
    progress: Progress,
) -> RecipeComparison:
    """Compare as `compare` does, with settings that are checked already."""
    if settings.budget is None or not settings.budget.cost_names:
        raise BudgetError(
            "a comparison needs a budget with a limit on a cost, under which all recipes are "
            f"judged, got `{settings.budget}`; set for example `--budget params<=0.7x`"
        )
    # before its settings are held against these
    if resume and not Store.is_lost(out / DATABASE_FILE):
        with RunStore.open(out) as earlier:
            _check_comparison(earlier)
    with open_run(out, settings, resume=resume) as shared:
        shared.record_metadata(RunMetadata(recipes=tuple(recipes)))
        # `shared.settings` name the model by its absolute path
        planned = {name: recipe.settings(shared.settings) for name, recipe in recipes.items()}
        unfinished = {
            name: recipe_settings
            for name, recipe_settings in planned.items()
            if not _is_finished(out / name, recipe_settings)
        }
        if unfinished:
            _run_all(shared, unfinished, progress)
        shared.begin_session()
        shared.record_status("finished", share=1.0)
    release_pages()
    comparison = RecipeComparison.open(out)
    comparison.save()
    return comparison


def _check_comparison(shared: RunStore) -> None:
    """Refuse the folder of a search.

    Raises:
        RunError: If it is one.
    """
    if shared.landed():
        raise RunError(
            f"`{shared.folder}` must hold a comparison, got a search; choose another --out"
        )


def _run_all(
    shared: RunStore, unfinished: Mapping[str, SearchSettings], progress: Progress
) -> None:
    prepared_models = _PreparedModels(shared, progress)
    prepared_models.check_budget(unfinished)
    preparations = [preparation_key(shared.settings), *map(preparation_key, unfinished.values())]
    keys = list(dict.fromkeys(preparations))
    # recipes that share a prepared model follow each other, so that each is made once
    ordered = sorted(unfinished.items(), key=lambda item: keys.index(preparation_key(item[1])))
    for position, (name, settings) in enumerate(ordered, start=1):
        phase = f"recipe {name} ({position} of {len(unfinished)})"
        logger.info(phase)
        shared.record_status("searching", phase, (position - 1) / len(unfinished))
        folder = shared.folder / name
        is_begun = (folder / SETTINGS_FILE).is_file()
        with _naming(name), open_run(folder, settings, resume=is_begun) as run:
            # baselines would count as plans that the recipe proposed
            prepared = prepared_models.for_recipe(run)
            search_prepared(run, prepared, progress, with_baselines=False)
            prepared_models.leave_levels(run)


@contextmanager
def _naming(recipe: str) -> Iterator[None]:
    """Name the recipe in what is refused of its budget or settings."""
    try:
        yield
    except (BudgetError, SettingsError) as error:
        raise type(error)(f"recipe `{recipe}`: {error}") from error


class _PreparedModels:
    """Prepared models for recipes: one at a time, made anew for a recipe prepared otherwise.

    Args:
        shared: The comparison, whose own settings and text the first prepared model is made with.
        progress: Receives the progress.
    """

    def __init__(self, shared: RunStore, progress: Progress) -> None:
        self._shared, self._progress = shared, progress
        self._preparation, self._folder = preparation_key(shared.settings), shared.folder
        self._prepared: PreparedModel | None = open_prepared(shared, progress)

    def check_budget(self, recipes: Mapping[str, SearchSettings]) -> None:
        """Refuse recipes none of whose plans meets the budget, before any is searched.

        Measured costs are known to a recipe's own search alone.

        Raises:
            BudgetError: If there is such a recipe.
            SettingsError: If the model has nothing that a recipe prunes.
        """
        assert self._prepared is not None
        own, shared = self._prepared, self._shared
        for name, settings in recipes.items():
            dense = own.dense
            costs = cost_model(dense.loaded, dense.structure, settings, dense.holds)
            dense = replace(dense, costs=costs)
            with _naming(name):
                check_space(dense, settings)
                space = load_space(dense, settings, shared.folder, weights_digest="")
                smallest = replace(own, dense=dense, space=space).smallest_costs()
                assert settings.budget is not None  # a comparison has one
                settings.budget.computed_only().check_reachable(costs.dense(), smallest)

    def for_recipe(self, run: RunStore) -> PreparedModel:
        """Return the prepared model of a recipe's run, and copy its files to the run's folder."""
        recipe_preparation = preparation_key(run.settings)
        if self._prepared is None or recipe_preparation != self._preparation:
            carry(COMMON_FILES, self._shared.folder, run.folder)
            self._prepared = None  # memory need not hold two models
            begun = self._shared.metadata.arithmetic
            self._prepared = open_prepared(run, self._progress, begun=begun)
            self._preparation, self._folder = recipe_preparation, run.folder
        carry(PREPARED_FILES, self._folder, run.folder)
        check_resumable(run, self._prepared.dense)
        return with_search_space(self._prepared, run.settings, run.folder)

    def leave_levels(self, run: RunStore) -> None:
        """Link the pruned weights that a recipe was scored with into its folder."""
        carry((WEIGHTS_FILE,), self._folder, run.folder)
        source, target = self._folder / LEVELS_FOLDER, run.folder / LEVELS_FOLDER
        if source.is_dir() and not target.exists():
            shutil.copytree(source, target, copy_function=_linked)


def _linked(source: str, target: str) -> None:
    """Hard-link a file, which is never written to again; copy it where that fails."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _is_finished(folder: Path, settings: SearchSettings) -> bool:
    """Return whether a recipe was searched up to the limits of its settings."""
    if not (folder / SETTINGS_FILE).is_file():
        return False
    with RunStore.resume(folder, settings) as run:
        return run.is_finished
