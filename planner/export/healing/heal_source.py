"""From what a user typed to what is healed: a plan of a run, its whole front, or an export."""

from dataclasses import dataclass
from pathlib import Path

from planner.export.choose import chosen_plan
from planner.export.healing.healed_export import heal_export
from planner.export.run_exports import export_from_run
from planner.export.staging import check_vacant
from planner.recovery.healing.heal_front import HealedFront, heal_front, healable
from planner.recovery.healing.heal_run import Healed, beginning, heal_plan
from planner.recovery.opened_run import run_to_recover
from planner.recovery.recording import find_variant
from planner.runs.folder import SETTINGS_FILE
from planner.runs.records import plan_and_recovery, variant_name
from planner.runs.run_store import RunStore
from planner.settings.heal import HealSettings
from search_spaces.errors import SettingsError
from search_spaces.paths import existing_path
from search_spaces.progress import Progress


@dataclass(frozen=True, kw_only=True)
class HealRequest:
    """What of a run is to be healed, and where it is written; an export is healed whole."""

    plan: str | None = None
    """A plan's id, which stands for its best variant, or a variant's name."""
    budget: str | None = None
    """Take the best plan of the run within it."""
    knee: bool = False
    """Take the plan at the knee of the run's front."""
    front: bool = False
    """Heal all plans of the front at once."""
    out: Path | None = None
    """Write the healed plan as an export; `None`: it stays a variant in its run."""

    def check(self, *, is_run: bool) -> None:
        """Refuse what does not go together.

        Raises:
            SettingsError: If there is such, or nothing is chosen.
        """
        ways = ("plan", "budget", "knee", "front")
        given = [f"`--{name}`" for name in ways if getattr(self, name) not in {None, False}]
        got = " and ".join(given) or "none"
        if is_run and len(given) != 1:
            listed = ", ".join(f"`--{name}`" for name in ways)
            raise SettingsError(f"healing a run needs one of {listed}, got {got}; give one")
        if not is_run and given:
            raise SettingsError(
                f"an export folder is one plan and takes no {got}; leave it out, or name the run"
            )
        if not is_run and self.out is None:
            raise SettingsError("`--out` must name where a healed export goes, got none; add it")
        if self.front and self.out is not None:
            raise SettingsError(
                "`--front` heals plans inside their run, got `--out` too; leave it out, and "
                "export each by `planner export RUN --plan ID+heal`"
            )


def heal(settings: HealSettings, request: HealRequest, progress: Progress) -> Healed | HealedFront:
    """Heal a plan of a run, its front, or an export.

    Raises:
        InputError: If the user must correct something.
        VerificationError: If what was written does not compute what was trained.
    """
    folder = existing_path(settings.model)
    if not folder.is_dir():
        raise SettingsError(
            f"`{folder}` must be the folder of a run or of an export, got none; give the --out of "
            "a search or of an export"
        )
    is_run = (folder / SETTINGS_FILE).is_file()
    request.check(is_run=is_run)
    if not is_run:
        assert request.out is not None
        return heal_export(folder, settings, request.out, progress)
    if request.out is not None:
        check_vacant(request.out, settings.model)
    name = _chosen_name(folder, request)
    trusted = settings.trust_remote_code
    with run_to_recover(folder, progress, trust_remote_code=trusted) as (run, prepared):
        if name is None:
            return heal_front(run, prepared, settings, progress)
        if plan_and_recovery(name)[1] is None:
            name = beginning(run, prepared, name, progress)
        healed = heal_plan(run, prepared, name, settings, progress)
    if request.out is not None and healed.after is not None:
        export_from_run(
            RunStore.open(folder),
            variant_name(plan_and_recovery(name)[0], "heal"),
            request.out,
            trust_remote_code=trusted,
            verify=settings.verify,
            progress=progress,
        )
    return healed


def _chosen_name(folder: Path, request: HealRequest) -> str | None:
    """Return the plan or variant of a run that is asked for, before anything long begins.

    Returns:
        `None`: all plans of its front.

    Raises:
        PlanError: If there is none of that name, or the front is too short.
        BudgetError: If none meets the budget.
    """
    with RunStore.open(folder) as run:
        if request.front:
            healable(run)
            return None
        if request.plan is None:
            return chosen_plan(run, request.budget).plan_id
        find_variant(run, request.plan)
        return request.plan
