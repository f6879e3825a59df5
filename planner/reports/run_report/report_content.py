"""What the page of a run says, as plain data for its template."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from evaluators.metric import METRICS
from planner.reports.answer import answer_sentence, measured_speed
from planner.reports.known_exports import KnownExport, known_exports
from planner.reports.sentences import (
    compared_with_baselines,
    front_sentence,
    restriction_sentence,
    stability_sentences,
    status_sentence,
)
from planner.reports.tables import plan_rows
from planner.results.answers import own_budget
from planner.results.recoveries import run_recovery_sentences
from planner.run import Run
from planner.runs.folder import ENVIRONMENT_FILE
from planner.runs.records import now
from planner.runs.resume_command import begin_command
from planner.settings.budget import Budget, relative_cost
from search_spaces.errors import BudgetError, RunError

if TYPE_CHECKING:
    import pandas as pd

_SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Of the first cost: budgets that are answered besides the run's own."""
_MOST_PLANS = 8
"""Whose layers are shown."""

Rows = Sequence[Sequence[str]]
"""Of a table, the header first."""


@dataclass(frozen=True, kw_only=True)
class ShownPlan:
    """A plan whose layers are shown."""

    plan_id: str
    what: str
    """Why it is shown: what it is the best of."""
    facts: str
    layers: "pd.DataFrame"


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """All that the page says."""

    model: str
    folder: str
    unfinished: str
    """How far the run has come; empty: to its end."""
    made: str
    """When and by which version the page was made."""
    budget: str
    """That the run answers on top; empty: none."""
    answer: str
    best: str | None
    """The plan that the answer names."""
    verdicts: Sequence[str]
    """How it compares with the baselines."""
    notes: Sequence[str]
    """Sentences on the front as a whole."""
    front: Rows
    """Its first column holds marks: ``best``, ``knee``, both, or none."""
    answers: Rows
    """To other budgets; empty: no plan meets any."""
    plans: Sequence[ShownPlan]
    unshown: str
    """Why no layers are shown; empty: they are."""
    baselines: Rows
    stability: Sequence[str]
    exports: Rows
    commands: Sequence[tuple[str, str]]
    """What each does, and what to type."""
    settings: Mapping[str, str]
    environment: Mapping[str, str]
    packages: str


def report_content(run: Run) -> ReportContent:
    """Return what the page of a run says.

    Raises:
        RunError: If what the run holds is damaged.
    """
    budget = own_budget(run)
    best, answer = _answer(run, budget)
    knee, answers = run.knee(), _answers(run, budget)
    marks = {"best": best, "knee": knee.plan_id if knee else None}
    plans, unshown = _shown(run, budget, marks, answers)
    environment, packages = _environment(run.folder)
    return ReportContent(
        model=PurePath(run.settings.model).name,
        folder=str(run.folder),
        unfinished=status_sentence(run),
        made=f"{now():%Y-%m-%d %H:%M} UTC, compression-planner {version('compression-planner')}",
        budget=str(budget or ""),
        answer=answer,
        best=best,
        verdicts=_verdicts(run, budget),
        notes=[
            *front_sentence(run).splitlines(),
            *filter(None, [restriction_sentence(run)]),
            *run_recovery_sentences(run, [plan for plan in run.landed() if plan.recovered]),
        ],
        front=_front(run, marks),
        answers=plan_rows(answers, "budget", list(answers["budget"])) if len(answers) else [],
        plans=plans,
        unshown=unshown,
        baselines=_baselines(run),
        stability=_stability(run),
        exports=_exports(run),
        commands=_commands(run, budget, best),
        settings={n: _words(value) for n, value in run.settings.model_dump().items()},
        environment=environment,
        packages=packages,
    )


def _answer(run: Run, budget: Budget | None) -> tuple[str | None, str]:
    """Return the best plan within the budget, and the answer in a sentence."""
    if budget is None:
        return None, "no budget was set, and the front has no knee: choose a plan from the table"
    try:
        return run.best(budget).plan_id, answer_sentence(run, budget)
    except BudgetError as error:
        return None, str(error)


def _verdicts(run: Run, budget: Budget | None) -> list[str]:
    """Return how the answer compares with the baselines, which are made for the run's budget."""
    try:
        return compared_with_baselines(run, run.best(budget))[1:] if budget else []
    except BudgetError:
        return []


def _answers(run: Run, budget: Budget | None) -> "pd.DataFrame":
    """Return the best plans within other budgets, those that no plan meets left out."""
    budgets = [f"{run.cost_names[0]}<={share:g}x" for share in _SHARES]
    frame = run.answers([each for each in budgets if each != str(budget)])
    return frame.loc[frame["refusal"] == ""]


def _front(run: Run, marks: Mapping[str, str | None]) -> Rows:
    frame = run.front()
    found = (
        [mark for mark, plan_id in marks.items() if plan_id == row_id]
        for row_id in frame["plan_id"]
    )
    return plan_rows(frame, "", [" ".join(of_one) for of_one in found])


def _shown(
    run: Run, budget: Budget | None, marks: Mapping[str, str | None], answers: "pd.DataFrame"
) -> tuple[list[ShownPlan], str]:
    """Return the plans that answer something, each once; or none, and why."""
    reasons: dict[str, list[str]] = {}
    found = [
        (marks["best"], f"best within {budget}"),
        (marks["knee"], "the knee of the front"),
        *((row.plan_id, f"best within {row.budget}") for row in answers.itertuples()),
    ]
    for plan_id, reason in found:
        if plan_id is not None:
            reasons.setdefault(str(plan_id), []).append(reason)
    try:
        return list(_plans(run, dict(list(reasons.items())[:_MOST_PLANS]))), ""
    except RunError as error:  # of a file that is lost, only the layers are missing here
        return [], str(error)


def _plans(run: Run, reasons: Mapping[str, Sequence[str]]) -> Iterator[ShownPlan]:
    for plan_id, what in reasons.items():
        plan = run.plan(plan_id)
        costs = ", ".join(
            f"{METRICS[name].amount(plan.evaluation.costs[name])} {name} "
            f"({relative_cost(name, plan.evaluation.costs[name], run.dense):.3f}×)"
            for name in dict.fromkeys([*run.cost_names, "size"])
        )
        yield ShownPlan(plan_id=plan_id, what=", ".join(what), facts=costs, layers=plan.layers())


def _baselines(run: Run) -> Rows:
    found = run.baselines()
    if not found:
        return []
    frame = run.evaluations()
    chosen = frame.set_index("plan_id").loc[[e.plan_id for e in found.values()]].reset_index()
    return plan_rows(chosen, "baseline", list(found))


def _stability(run: Run) -> list[str]:
    try:
        return stability_sentences(run.stability()).splitlines()
    except RunError as error:
        return [str(error)]


def _exports(run: Run) -> Rows:
    """Return what was measured of the exports of plans that lie with the run."""
    found = [each for exports in known_exports(run).values() for each in exports]
    if not found:
        return []
    header = ["folder", "plan", "format", "served by", "weights", "speed", "perplexity"]
    return [header, *map(_export_row, found)]


def _export_row(export: KnownExport) -> list[str]:
    manifest = export.manifest
    service = manifest.service
    perplexity = service.perplexity.get("pruned")
    told = (
        ""
        if perplexity is None
        else (f"{perplexity.value:.2f} (dense {service.perplexity['dense'].value:.2f})")
    )
    return [
        str(export.folder),
        manifest.plan_id,
        manifest.format,
        str(service),
        METRICS["size"].amount(service.file_bytes["pruned"]),
        measured_speed(export) or service.latency_missing,
        told,
    ]


def _commands(run: Run, budget: Budget | None, best: str | None) -> list[tuple[str, str]]:
    """Return what to type to make the run again, to ask it, and to export from it."""
    folder, again = str(run.folder), run.folder.with_name(f"{run.folder.name}-again")
    ask = ["planner", "front", folder, *(["--budget", str(budget)] if budget else [])]
    commands = [
        ("search again, into another folder", begin_command(run.settings, again)),
        ("ask the run", shlex.join(ask)),
    ]
    if best:
        out = ["--out", f"exported-{best}"]
        export = shlex.join(["planner", "export", folder, "--plan", best, *out])
        commands += [
            ("show the plan", shlex.join(["planner", "show", folder, best])),
            ("export it for transformers and vLLM", export),
            ("export it for llama.cpp", f"{export} --format gguf"),
        ]
    return commands


def _environment(folder: Path) -> tuple[dict[str, str], str]:
    """Return what the run was made with, and the packages that were installed."""
    try:
        told: Any = json.loads((folder / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {ENVIRONMENT_FILE: "cannot be read"}, ""
    if not isinstance(told, dict):
        return {ENVIRONMENT_FILE: "is damaged"}, ""
    packages = told.pop("packages", None)
    listed = packages.items() if isinstance(packages, dict) else ()
    return (
        {str(name): _words(value) for name, value in told.items()},
        ", ".join(f"{name} {number}" for name, number in listed),
    )


def _words(value: object) -> str:
    """Return a value as people read it."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(each)}" for name, each in value.items())
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
