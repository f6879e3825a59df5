"""From what a user typed to the plan that is exported."""

from pathlib import Path

from planner.export.pipeline import export_from_model, export_from_run, names_file
from planner.results.budgets import plan_chooser
from planner.runs.folder import SETTINGS_FILE
from planner.runs.run_store import RunStore
from planner.settings.budget import Budget
from planner.settings.search import SearchSettings
from search_spaces.errors import PlanError, SettingsError, quoted
from search_spaces.models.identity import Verify
from search_spaces.paths import existing_path
from search_spaces.progress import Progress


def export_chosen(  # noqa: PLR0913  (what a command line says)
    source: str,
    *,
    plan: str | None,
    budget: str | None,
    out: Path,
    trust_remote_code: bool,
    verify: Verify = "sample",
    progress: Progress,
) -> Path:
    """Export the plan that a user named, by id, by file or by a budget.

    Args:
        source: Folder of a run; or a model, with ``plan`` a file.
        plan: Id of a plan of the run, or a plan file.
        budget: Take the best plan of the run within it.
        out: The folder to make.
        trust_remote_code: Run Python code from the folder of a model.
        verify: How the model's weights are compared with the run's.
        progress: Receives stages and progress.

    Raises:
        InputError: If the user must correct something.
    """
    if (plan is None) == (budget is None):
        raise SettingsError(
            "an export needs one of `--plan` and `--budget`, got "
            f"{'none' if plan is None else 'both'}; give one"
        )
    folder = existing_path(source)
    if _is_run(folder) or budget is not None:
        run = RunStore.open(folder)
        if plan is None:
            plan = plan_chooser(run)(Budget.parse(budget or "")).plan_id
        return export_from_run(
            run,
            plan,
            out,
            trust_remote_code=trust_remote_code,
            verify=verify,
            progress=progress,
        )
    if plan is None or not names_file(plan):
        raise PlanError(
            f"{quoted(source)} is no run, so `--plan` must be a plan file of that model, got "
            f"{quoted(plan or '')}; give a .json file, or the folder of a run"
        )
    settings = SearchSettings.checked(model=source, trust_remote_code=trust_remote_code)
    return export_from_model(settings, Path(plan), out, progress=progress)


def _is_run(folder: Path) -> bool:
    """Return whether a folder holds a run; one that may not be read is told as it is."""
    try:
        return (folder / SETTINGS_FILE).is_file()
    except PermissionError:
        raise
    except OSError:  # no name of a folder, such as a very long one
        return False
