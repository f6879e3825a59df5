"""Several recipes on one model: equal tokens, ranking, budget and limits, each a run of its own.

A comparison is a run without a search: its folder keeps what all recipes share, and the folder of
each recipe in it is a whole run that stands alone.
"""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from evaluators.runtime.allocator import release_pages
from planner.preparation.prepare import COMMON_FILES, PREPARED_FILES, laid_out_for, preparation
from planner.preparation.prepared_model import PreparedModel
from planner.recipes.recipe import DEFAULT_RECIPES, Recipe, chosen_recipes
from planner.recipes.recipe_comparison import RECIPES_KEY, Comparison
from planner.runs.folder import DATABASE_FILE, LEVELS_FOLDER
from planner.runs.run_store import RunStore
from planner.searching.problem import asked_budget
from planner.searching.search_model import check_same, open_prepared, opened, search_on
from planner.settings.budget import check_reachable
from planner.settings.search import SETTINGS_FILE, SearchSettings
from search_spaces.atomic_files import replacing
from search_spaces.errors import BudgetError, InputError, RunError
from search_spaces.progress import NoProgress, Progress

logger = logging.getLogger(__name__)


def compare(
    model: str,
    *,
    budget: str,
    out: str | Path,
    recipes: str | Sequence[str] = DEFAULT_RECIPES,
    resume: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Comparison:
    """Search a model by several recipes under the same budget and limits.

    Args:
        model: A HuggingFace folder, a hub name or a ``.gguf`` file.
        budget: With a limit on one cost or more.
        out: The comparison's folder, new or empty; with ``resume`` that of a comparison.
        recipes: Names in `planner.recipes.recipe.RECIPES`.
        resume: Go on with the comparison in ``out``: what is finished is not run again, and
            recipes may join.
        progress: Told of progress.
        options: Any other field of `SearchSettings`; what a recipe sets itself stands above it.

    Returns:
        What was found, written down too.

    Raises:
        InputError: For whatever the user can mend.
    """
    settings = SearchSettings.checked(model=model, budget=budget, **options)
    chosen = chosen_recipes(recipes)
    return run_comparison(
        settings, chosen, Path(out), resume=resume, progress=progress or NoProgress()
    )


def run_comparison(
    settings: SearchSettings,
    recipes: Mapping[str, Recipe],
    out: Path,
    *,
    resume: bool,
    progress: Progress,
) -> Comparison:
    """Compare as `compare` does, with settings that are checked already."""
    if not asked_budget(settings).cost_names:
        raise BudgetError(
            "a comparison needs a budget with a limit on a cost, under which all recipes are "
            f"judged, got `{settings.budget}`; set for example `--budget params<=0.7x`"
        )
    if resume and (out / DATABASE_FILE).is_file():  # before its settings are held against these
        with RunStore.open(out) as earlier:
            _check_comparison(earlier)
    with opened(out, settings, resume=resume) as shared:
        shared.set_meta(RECIPES_KEY, list(recipes))
        # the model's place is made whole by now
        planned = {name: recipe.settings(shared.settings) for name, recipe in recipes.items()}
        waiting = {n: own for n, own in planned.items() if not _is_finished(out / n, own)}
        if waiting:
            _run_all(shared, waiting, progress)
    release_pages()
    found = Comparison.open(out)
    found.save()
    return found


def _check_comparison(shared: RunStore) -> None:
    """Refuse the folder of a search.

    Raises:
        RunError: Where it is one.
    """
    if shared.evaluations():
        raise RunError(
            f"`{shared.folder}` must hold a comparison, got a search; choose another --out"
        )


def _run_all(shared: RunStore, waiting: Mapping[str, SearchSettings], progress: Progress) -> None:
    prepared_models = _PreparedModels(shared, progress)
    keys = list(dict.fromkeys([preparation(shared.settings), *map(preparation, waiting.values())]))
    # those that share a workbench follow each other, so that each is made once
    ordered = sorted(waiting.items(), key=lambda item: keys.index(preparation(item[1])))
    for position, (name, settings) in enumerate(ordered, start=1):
        logger.info("recipe %s (%d of %d)", name, position, len(waiting))
        folder = shared.folder / name
        try:
            with opened(folder, settings, resume=(folder / SETTINGS_FILE).is_file()) as run:
                # baselines would count as the recipe's own finds
                search_on(run, prepared_models.for_recipe(run), progress, with_baselines=False)
                prepared_models.leave_levels(run)
        except InputError:
            _remove_empty(folder)
            raise


class _PreparedModels:
    """Workbenches for recipes: one at a time, made anew where a recipe is prepared otherwise.

    Args:
        shared: The comparison, whose own settings and text the first workbench is made with.
        progress: Told of progress.

    Raises:
        BudgetError: No plan can meet the budget.
    """

    def __init__(self, shared: RunStore, progress: Progress) -> None:
        self._shared, self._progress = shared, progress
        self._prepared, self._folder = preparation(shared.settings), shared.folder
        self._bench: PreparedModel | None = open_prepared(shared, progress)
        budget = asked_budget(shared.settings)
        check_reachable(budget, self._bench.dense.costs.dense(), self._bench.smallest())

    def for_recipe(self, run: RunStore) -> PreparedModel:
        """Give the workbench of a recipe's run, and its folder what it needs of that."""
        prepared = preparation(run.settings)
        if self._bench is None or prepared != self._prepared:
            _copy(COMMON_FILES, self._shared.folder, run.folder)
            self._bench = None  # memory need not hold two models
            self._bench = open_prepared(run, self._progress)
            self._prepared, self._folder = prepared, run.folder
        _copy(PREPARED_FILES, self._folder, run.folder)
        check_same(run, self._bench.dense)
        return laid_out_for(self._bench, run.settings, run.folder)

    def leave_levels(self, run: RunStore) -> None:
        """Give the folder of a recipe the weights that it was scored with."""
        source, own = self._folder / LEVELS_FOLDER, run.folder / LEVELS_FOLDER
        if source.is_dir() and not own.exists():
            shutil.copytree(source, own, copy_function=_linked)


def _linked(source: str, place: str) -> None:
    """Give a file a second name, for it is never written to again; copy it where that fails."""
    try:
        os.link(source, place)
    except OSError:
        shutil.copyfile(source, place)


def _copy(names: Sequence[str], source: Path, folder: Path) -> None:
    """Copy the files that there are and that the folder does not have."""
    for name in names:
        if (source / name).is_file() and not (folder / name).is_file():
            with replacing(folder / name) as whole:
                shutil.copyfile(source / name, whole)


def _is_finished(folder: Path, settings: SearchSettings) -> bool:
    """Whether a recipe was searched to the end that the settings set."""
    if not (folder / SETTINGS_FILE).is_file():
        return False
    with RunStore.resume(folder, settings) as run:
        return run.is_finished


def _remove_empty(folder: Path) -> None:
    """Remove the folder of a recipe that scored nothing, so that it is not in the way."""
    if folder.is_dir() and not (folder / SETTINGS_FILE).is_file():
        with suppress(OSError):
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
