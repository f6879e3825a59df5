"""Several recipes on one model: equal tokens, ranking, budget and limits, each a run of its own.

A comparison is a run without a search: its folder keeps what all recipes share, and the folder of
each recipe in it is a whole run that stands alone.
"""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from evaluators.memory import release_pages
from planner.budget import check_reachable
from planner.comparison import RECIPES_KEY, Comparison
from planner.listener import Listener, Silence
from planner.preparing import PREPARED_FILES, laid_out_for
from planner.recipes import DEFAULT_RECIPES, Recipe, chosen_recipes
from planner.run import DATABASE_FILE, Run
from planner.searching import asked_budget, check_same, open_bench, opened, search_on
from planner.settings import SETTINGS_FILE, SearchSettings
from planner.workbench import Workbench
from search_spaces.errors import BudgetError, InputError, RunError
from search_spaces.files import replacing


def compare(
    model: str,
    *,
    budget: str,
    out: str | Path,
    recipes: str | Sequence[str] = DEFAULT_RECIPES,
    resume: bool = False,
    listener: Listener | None = None,
    **options: Any,
) -> Comparison:
    """Search a model by several recipes under the same budget and limits.

    Args:
        model: A HuggingFace folder, a hub name or a ``.gguf`` file.
        budget: With a limit on one cost or more.
        out: The comparison's folder, new or empty; with ``resume`` that of a comparison.
        recipes: Names in `planner.recipes.RECIPES`.
        resume: Go on with the comparison in ``out``: what is finished is not run again, and
            recipes may join.
        listener: Told of progress.
        options: Any other field of `SearchSettings`; what a recipe sets itself stands above it.

    Returns:
        What was found, written down too.

    Raises:
        InputError: For whatever the user can mend.
    """
    settings = SearchSettings.checked(model=model, budget=budget, **options)
    chosen = chosen_recipes(recipes)
    return run_comparison(
        settings, chosen, Path(out), resume=resume, listener=listener or Silence()
    )


def run_comparison(
    settings: SearchSettings,
    recipes: Mapping[str, Recipe],
    out: Path,
    *,
    resume: bool,
    listener: Listener,
) -> Comparison:
    """Compare as `compare` does, with settings that are checked already."""
    if not asked_budget(settings).cost_names:
        raise BudgetError(
            "a comparison needs a budget with a limit on a cost, under which all recipes are "
            f"judged, got `{settings.budget}`; set for example `--budget params<=0.7x`"
        )
    if resume and (out / DATABASE_FILE).is_file():  # before its settings are held against these
        with Run.open(out) as earlier:
            _check_comparison(earlier)
    with opened(out, settings, resume=resume) as shared:
        shared.set_meta(RECIPES_KEY, list(recipes))
        # the model's place is made whole by now
        planned = {name: recipe.settings(shared.settings) for name, recipe in recipes.items()}
        waiting = {n: own for n, own in planned.items() if not _is_finished(out / n, own)}
        if waiting:
            _run_all(shared, waiting, listener)
    release_pages()
    found = Comparison.open(out)
    found.save()
    return found


def _check_comparison(shared: Run) -> None:
    """Refuse the folder of a search.

    Raises:
        RunError: Where it is one.
    """
    if shared.evaluations():
        raise RunError(
            f"`{shared.folder}` must hold a comparison, got a search; choose another --out"
        )


def _run_all(shared: Run, waiting: Mapping[str, SearchSettings], listener: Listener) -> None:
    bench = open_bench(shared, listener)
    budget = asked_budget(shared.settings)
    check_reachable(budget, bench.dense.costs.dense(), bench.smallest())
    for position, (name, settings) in enumerate(waiting.items(), start=1):
        listener.say(f"recipe {name} ({position} of {len(waiting)})")
        folder = shared.folder / name
        try:
            _run_recipe(shared.folder, folder, settings, bench, listener)
        except InputError:
            _remove_empty(folder)
            raise


def _run_recipe(
    shared: Path, folder: Path, settings: SearchSettings, bench: Workbench, listener: Listener
) -> None:
    begun = (folder / SETTINGS_FILE).is_file()
    with opened(folder, settings, resume=begun) as run:
        for name in PREPARED_FILES:
            if (shared / name).is_file() and not (folder / name).is_file():
                with replacing(folder / name) as whole:
                    shutil.copyfile(shared / name, whole)
        check_same(run, bench.dense)
        # baselines would count as the recipe's own finds
        own = laid_out_for(bench, settings, folder)
        search_on(run, own, listener, with_baselines=False)


def _is_finished(folder: Path, settings: SearchSettings) -> bool:
    """Whether a recipe was searched to the end that the settings set."""
    if not (folder / SETTINGS_FILE).is_file():
        return False
    with Run.resume(folder, settings) as run:
        return run.is_finished


def _remove_empty(folder: Path) -> None:
    """Remove the folder of a recipe that scored nothing, so that it is not in the way."""
    if folder.is_dir() and not (folder / SETTINGS_FILE).is_file():
        with suppress(OSError):
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
