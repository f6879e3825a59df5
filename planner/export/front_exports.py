"""Many plans of a run as models: a folder each, with a list of what became of every one."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from planner.export.run_exports import HF, RunExports
from planner.export.staging import SPARE_BYTES
from planner.runs.folder import EXPORTS_FILE, MANIFEST_FILE
from planner.runs.lock import acquired
from planner.runs.records import Evaluation
from planner.runs.run_store import RunStore
from planner.targets.target_names import TargetChoice
from search_spaces.atomic_files import atomic_write_text, discard, make_folder, writing
from search_spaces.errors import OutputError, TargetError, VerificationError, quoted
from search_spaces.models.identity import Verify
from search_spaces.progress import NO_PROGRESS, Progress

logger = logging.getLogger(__name__)

_LOCK_FILE = "exports.lock"
"""Held while a process exports into the folder."""


class ExportedPlan(BaseModel):
    """What became of one plan."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    plan_id: str
    folder: str
    """Its name beside the list."""
    state: Literal["open", "exported", "refused", "failed"] = "open"
    reason: str = ""
    """Why there is no export, in words."""


class ExportIndex(BaseModel):
    """The list of many exports of one run in one format."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Literal[1] = 1
    run: str
    """What it began with: model, text and order, which tell it from others."""
    target: TargetChoice
    plans: list[ExportedPlan]

    def save(self, folder: Path) -> None:
        """Write the list into its folder."""
        atomic_write_text(folder / EXPORTS_FILE, self.model_dump_json(indent=1) + "\n")


def export_plans(  # noqa: PLR0913  (what a command line says)
    run: RunStore,
    plans: Sequence[Evaluation],
    out: Path,
    *,
    choice: TargetChoice = HF,
    trust_remote_code: bool = False,
    verify: Verify = "sample",
    progress: Progress = NO_PROGRESS,
) -> ExportIndex:
    """Export plans of a run, each into a folder of its own that is named by its costs.

    What an earlier call left there is kept. A plan that the target cannot hold, or that fails its
    proof, is named in the list, and the others stand.

    Args:
        run: The run.
        plans: Of it; each is exported once.
        out: The folder to make, or one that this began in.
        choice: What kind of export.
        trust_remote_code: Run Python code that comes with the model.
        verify: How the model's weights are compared with the run's.
        progress: Receives stages and progress.

    Raises:
        OutputError: If the folder holds something else, or has too little room.
    """
    with _alone(out):
        index = _begun(run, plans, out, choice)
        costs = {plan.plan_id: plan.costs for plan in plans}
        left = [p for p in index.plans if p.plan_id in costs and p.state != "exported"]
        _check_room(out, [costs[each.plan_id].get("size", 0.0) for each in left])
        if not left:
            return index
        exports = RunExports(
            run,
            [each.plan_id for each in left],
            trust_remote_code=trust_remote_code,
            verify=verify,
            progress=progress,
        )
        for each in left:
            done = index.plans.index(each) + 1
            progress.stage(f"plan {each.plan_id}, {done} of {len(index.plans)}: {each.folder}")
            found = _export(exports, each, out, choice)
            changed = [found if one.plan_id == found.plan_id else one for one in index.plans]
            index = index.model_copy(update={"plans": changed})
            index.save(out)
        return index


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Make a folder, and export into it by one process at a time.

    Raises:
        OutputError: If it holds something else than exports, or another process is at it.
    """
    if _names(out):
        _read(out)
    make_folder(out)
    refusal = OutputError(
        f"one process at a time may export into a folder, and another is at "
        f"{quoted(str(out))}; wait for it to end, or choose another `--out`"
    )
    lock = acquired(out / _LOCK_FILE, refusal)
    try:
        yield
    finally:
        discard(out / _LOCK_FILE)  # while it is held
        lock.release()


def _names(out: Path) -> set[str]:
    """Return what lies in a folder, if there is one, but for a lock that a killed process left."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    return names - {_LOCK_FILE}


def _export(
    exports: RunExports, plan: ExportedPlan, out: Path, choice: TargetChoice
) -> ExportedPlan:
    """Export one plan, and return what became of it."""
    try:
        exports.export(plan.plan_id, out / plan.folder, choice)
    except (TargetError, VerificationError) as error:
        state = "refused" if isinstance(error, TargetError) else "failed"
        logger.warning("plan %s is not exported: %s", plan.plan_id, error)
        return plan.model_copy(update={"state": state, "reason": str(error)})
    return plan.model_copy(update={"state": "exported", "reason": ""})


def _begun(
    run: RunStore, plans: Sequence[Evaluation], out: Path, choice: TargetChoice
) -> ExportIndex:
    """Return the list that a folder holds, with further plans, or a new one.

    Raises:
        OutputError: If the folder holds something else.
    """
    facts = run.metadata
    fingerprint = facts.model.fingerprint if facts.model else ""
    mark = f"{fingerprint}-{facts.text_digest}-{facts.order_digest}"
    index = ExportIndex(run=mark, target=choice, plans=[])
    if _names(out):
        index = _read(out)
        if (index.run, index.target) != (mark, choice):
            raise OutputError(
                f"`--out` must hold exports of this run in this format, and {quoted(str(out))} "
                f"holds others, in {index.target.name}; choose another folder"
            )
    known = {each.plan_id for each in index.plans}
    taken = {each.folder for each in index.plans}
    added = []
    for plan in plans:
        if plan.plan_id not in known:
            known.add(plan.plan_id)
            added.append(ExportedPlan(plan_id=plan.plan_id, folder=_name(run, plan, taken)))
    found = [_as_it_lies(each, out) for each in [*index.plans, *added]]
    index = index.model_copy(update={"plans": found})
    index.save(out)
    return index


def _as_it_lies(plan: ExportedPlan, out: Path) -> ExportedPlan:
    """Return what became of a plan by what is there.

    A folder has its name once it is whole: killed before that was noted, it is there; and one
    that was removed is to be made again.
    """
    is_there = (out / plan.folder / MANIFEST_FILE).is_file()
    if is_there == (plan.state == "exported"):
        return plan
    return plan.model_copy(update={"state": "exported" if is_there else "open", "reason": ""})


def _read(out: Path) -> ExportIndex:
    try:
        return ExportIndex.model_validate_json((out / EXPORTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        raise OutputError(
            f"`--out` must not exist yet, be empty, or hold the exports that this goes on with, "
            f"and {quoted(str(out))} is taken; choose another name or remove it"
        ) from error


def _name(run: RunStore, plan: Evaluation, taken: set[str]) -> str:
    """Return a name for a plan's folder: its costs as shares of the dense model's."""
    costs = [name for name in run.cost_names if name in plan.costs]
    name = "-".join(f"{cost}-{plan.costs[cost] / run.dense[cost]:.3f}x" for cost in costs)
    if name in taken:
        name = f"{name}-{plan.plan_id}"
    taken.add(name)
    return name


def _check_room(out: Path, sizes: Sequence[float]) -> None:
    """Say how much is written, and refuse a disk without room for it.

    Raises:
        OutputError: If it has none.
    """
    needed = sum(size + SPARE_BYTES for size in sizes)
    with writing(out):
        free = shutil.disk_usage(out).free
    logger.info("%d models to write, of about %.1f GB together", len(sizes), sum(sizes) / 1e9)
    if free < needed:
        raise OutputError(
            f"{len(sizes)} exports need {needed / 1e9:.1f} GB of free space, and the disk of "
            f"`{out}` has {free / 1e9:.1f} GB; free some space, or export fewer plans with "
            "`--budgets`"
        )
