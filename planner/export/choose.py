"""From what a user typed to the plans that are exported."""

import logging
from dataclasses import dataclass
from pathlib import Path

from planner.export.front_exports import ExportIndex, export_plans
from planner.export.run_exports import export_from_model, export_from_run, names_file
from planner.recovery.recording import best_variant, find_variant
from planner.recovery.recover_run import RecoverRequest, recover_run
from planner.results.budgets import named_budget, plan_chooser, split_budgets
from planner.results.front import front
from planner.results.indicators import plan_at_knee
from planner.runs.folder import SETTINGS_FILE
from planner.runs.records import (
    Evaluation,
    WeightsChoice,
    plan_and_recovery,
    variant_name,
)
from planner.runs.run_store import RunStore
from planner.settings.budget import Budget
from planner.settings.search import SearchSettings
from planner.targets.target_names import TargetChoice, TargetName
from search_spaces.errors import BudgetError, PlanError, SettingsError, quoted
from search_spaces.models.identity import Verify
from search_spaces.paths import existing_path
from search_spaces.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which plans to export, as what, and how their model is read."""

    plan: str | None = None
    """Id of a plan of the run, or a plan file."""
    budget: str | None = None
    """Take the best plan of the run within it."""
    knee: bool = False
    """Take the plan at the knee of the run's front."""
    budgets: str | None = None
    """Take the best plan within each of many budgets."""
    front: bool = False
    """Take every plan of the run's front."""
    recover: WeightsChoice | None = None
    """Take the plan with weights recovered in this way, which are made if they are missing; or
    ``best``: each by that of it and its variants which does best on fresh text."""
    format: TargetName = "hf"
    gguf_type: str | None = None
    """Number format of a GGUF file."""
    trust_remote_code: bool = False
    """Run Python code from the folder of a model."""
    verify: Verify = "sample"
    """How the model's weights are compared with the run's."""

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            SettingsError: If there is such, or no plan is chosen.
        """
        ways = ("plan", "budget", "knee", "budgets", "front")
        given = [f"`--{name}`" for name in ways if getattr(self, name) not in {None, False}]
        if len(given) != 1:
            raise SettingsError(
                "an export needs one of `--plan`, `--budget`, `--knee`, `--budgets` and "
                f"`--front`, got {' and '.join(given) or 'none'}; give one"
            )
        if self.recover not in {None, "best"} and (self.front or self.budgets is not None):
            raise SettingsError(
                f"`--recover {self.recover}` is for one plan, got {given[0]} with it; recover or "
                "heal the plans first, and set `--recover best`"
            )
        if self.gguf_type is not None and self.format != "gguf":
            raise SettingsError(
                f"`--gguf_type` is for `--format gguf`, got `--format {self.format}`; leave it "
                "out, or set that format"
            )

    @property
    def choice(self) -> TargetChoice:
        """The kind of export."""
        options = {} if self.gguf_type is None else {"file_type": self.gguf_type}
        return TargetChoice(name=self.format, options=options)


def _recovered(run: RunStore, plan: str, request: Request, progress: Progress) -> str:
    """Return the name of a plan with the weights asked for, or its own if these are no better.

    Raises:
        PlanError: If the run has no such plan.
    """
    plan_id, _ = plan_and_recovery(plan)
    if request.recover == "best":
        return best_variant(run, plan_id).plan_id
    assert request.recover is not None, "recovered weights were asked for"
    found = find_variant(run, plan_id)
    if request.recover not in found.recovered:
        asked = RecoverRequest(
            plan=plan_id,
            recovery=request.recover,
            trust_remote_code=request.trust_remote_code,
        )
        found = recover_run(run.folder, asked, progress)
    failure = found.recovered[request.recover].failure
    if failure is not None:
        logger.warning("plan %s is exported as it was searched: %s", plan_id, failure)
        return plan_id
    return variant_name(plan_id, request.recover)


def exports_many(request: Request) -> bool:
    """Return whether a request may be for many plans, each in a folder of its own.

    Raises:
        SettingsError: If its parts do not go together.
    """
    request.check()
    return request.front or request.budgets is not None


def export_chosen(
    source: str,
    request: Request,
    *,
    out: Path,
    progress: Progress,
) -> Path:
    """Export the plan that a user named, by id, by file, by a budget or at the knee.

    Args:
        source: Folder of a run; or a model, with ``plan`` a file.
        request: Which plan, and as what.
        out: The folder to make.
        progress: Receives stages and progress.

    Raises:
        InputError: If the user must correct something.
    """
    request.check()
    request.choice.make().check_installed()
    folder = existing_path(source)
    if _is_run(folder) or request.plan is None:
        run = RunStore.open(folder)
        plan = request.plan or chosen_plan(run, request.budget).plan_id
        return export_from_run(
            run,
            _recovered(run, plan, request, progress) if request.recover else plan,
            out,
            choice=request.choice,
            trust_remote_code=request.trust_remote_code,
            verify=request.verify,
            progress=progress,
        )
    if not names_file(request.plan):
        raise PlanError(
            f"{quoted(source)} is no run, so `--plan` must be a plan file of that model, got "
            f"{quoted(request.plan)}; give a .json file, or the folder of a run"
        )
    settings = SearchSettings.checked(model=source, trust_remote_code=request.trust_remote_code)
    return export_from_model(
        settings, Path(request.plan), out, choice=request.choice, progress=progress
    )


def export_many(
    source: str,
    request: Request,
    *,
    out: Path,
    progress: Progress,
) -> ExportIndex:
    """Export the plans of a run's front, or the best within each of many budgets.

    The arguments are those of `export_chosen`, the errors too.
    """
    request.check()
    request.choice.make().check_installed()
    run = RunStore.open(existing_path(source))
    plans = (
        front(run.landed(), run.cost_names)
        if request.budgets is None
        else _within_each(run, split_budgets(request.budgets))
    )
    return export_plans(
        run,
        [best_variant(run, plan.plan_id) for plan in plans] if request.recover else plans,
        out,
        choice=request.choice,
        trust_remote_code=request.trust_remote_code,
        verify=request.verify,
        progress=progress,
    )


def chosen_plan(run: RunStore, budget: str | None) -> Evaluation:
    """Return the best plan within a budget, or without one that at the knee of the front.

    Raises:
        BudgetError: If there is none.
    """
    if budget is not None:
        return plan_chooser(run)(Budget.parse(budget))
    plans = front(run.landed(), run.cost_names)
    plan = plan_at_knee(plans, run.cost_names, run.dense)
    if plan is None:
        raise BudgetError(
            "`--knee` needs a front that bends, and this one is too short or too straight; name a "
            "plan by `--plan` or `--budget`"
        )
    return plan


def _within_each(run: RunStore, budgets: list[str]) -> list[Evaluation]:
    """Return the best plan within each budget, each plan once.

    Raises:
        BudgetError: If there is none within one of them.
    """
    choose = plan_chooser(run)
    chosen = [choose(Budget.parse(named_budget(text, run.cost_names[0]))) for text in budgets]
    return list({plan.plan_id: plan for plan in chosen}.values())


def _is_run(folder: Path) -> bool:
    """Return whether a folder holds a run; one that may not be read is told as it is."""
    try:
        return (folder / SETTINGS_FILE).is_file()
    except PermissionError:
        raise
    except OSError:  # no name of a folder, such as a very long one
        return False
