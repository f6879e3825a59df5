"""Recovering plans of a run that a user named, with the run and its model opened for that."""

from dataclasses import dataclass
from pathlib import Path

from planner.recovery.opened_run import run_to_recover
from planner.recovery.recording import find_variant
from planner.recovery.recover import recover
from planner.recovery.selection import CANDIDATES, MOST_CANDIDATES, Selector
from planner.runs.records import Evaluation, LayerRecovery, plan_and_recovery
from planner.runs.run_store import RunStore
from planner.settings.budget import Budget
from search_spaces.errors import SettingsError
from search_spaces.progress import NO_PROGRESS, Progress


@dataclass(frozen=True, kw_only=True)
class RecoverRequest:
    """Which plan of a run to recover, and how."""

    plan: str | None = None
    """Id of a plan of the run; of a variant, its plan is meant."""
    budget: str | None = None
    """Take the plan within it that does best after recovery."""
    recovery: LayerRecovery = "refit"
    plans: int = CANDIDATES
    """Plans within the budget to choose among; 1: the best as it was searched."""
    tokens: int | None = None
    """Of the calibration text to fit to, at most; `None`: all of it."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            SettingsError: If there is such, or no plan is chosen, or a number is out of range.
        """
        given = [f"`--{n}`" for n in ("plan", "budget") if getattr(self, n) is not None]
        if len(given) != 1:
            raise SettingsError(
                "a recovery needs one of `--plan` and `--budget`, got "
                f"{' and '.join(given) or 'none'}; give one"
            )
        if self.plans < 1:
            raise SettingsError(f"`plans` must be at least 1, got {self.plans}; set `--plans 8`")
        if self.plans > MOST_CANDIDATES:
            raise SettingsError(
                f"`plans` must be at most {MOST_CANDIDATES}, for each is recovered, got "
                f"{self.plans}; set `--plans 8`"
            )
        if self.tokens is not None and self.tokens < 1:
            raise SettingsError(
                f"`tokens` must be at least 1, got {self.tokens}; leave it out to use all text"
            )


def recover_run(
    folder: Path, request: RecoverRequest, progress: Progress = NO_PROGRESS
) -> Evaluation:
    """Recover a plan of a run, and leave it there as a variant.

    Args:
        folder: Of the run.
        request: Which plan, and how.
        progress: Receives stages and progress.

    Returns:
        The plan as the run holds it now, with what its recoveries came to.

    Raises:
        InputError: If the user must correct something, such as a run that is in use.
    """
    request.check()
    budget = None if request.budget is None else Budget.parse(request.budget)
    plan_id = None if request.plan is None else plan_and_recovery(request.plan)[0]
    with RunStore.open(folder) as run:  # refused before anything long begins
        if plan_id is not None:
            find_variant(run, plan_id)
    trusts = request.trust_remote_code
    with run_to_recover(folder, progress, trust_remote_code=trusts) as (opened, prepared):
        if budget is not None:
            selector = Selector(run=opened, prepared=prepared, progress=progress)
            return selector.recover_within(budget, request.recovery, request.plans, request.tokens)
        assert plan_id is not None, "a plan or a budget was given"
        recover(opened, prepared, plan_id, request.recovery, progress, request.tokens)
        return find_variant(opened, plan_id)
