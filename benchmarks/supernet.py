"""One healing of a whole front, against healing each of three budgets alone at equal tokens."""

import logging
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contest import text_name, text_options
from benchmarks.report import Goal, Row, finish, is_quick
from evaluators.scoring.score import difference
from planner.cli.commands.demo_command import demo_model
from planner.recovery.healing.heal_front import heal_front
from planner.recovery.healing.heal_run import heal_plan
from planner.recovery.opened_run import run_to_recover
from planner.run import search
from planner.runs.records import Evaluation
from planner.settings.heal import HealSettings
from search_spaces.progress import NO_PROGRESS

SEED = 0
BUDGETS = (0.8, 0.7, 0.6)
"""Shares of the parameters."""
TOKENS, QUICK_TOKENS = 36_864, 12_288
"""Run through small models: by the healing of the front, and by those of all budgets together."""
WINDOWS, WINDOW_TOKENS = 4, 128
"""In a step."""
RATE = 2e-4

NOTES = f"""
SmolLM2-135M-Instruct, {{text}}: KL to the dense model on hold-out text, with standard errors
over windows. *searched* is the plan as it was searched, compensated by `obs`; *alone* was healed
by itself, each budget on a third of {{tokens:,}} tokens; *with the front* takes its weights from
the one healing of all plans, on {{tokens:,}} tokens, each window counted as often as it was run.
Both begin with the searched weights, and train those of all layers: AdamW, {RATE:g}, cosine. The
second table is the whole front; a plan that the healing did not help on fresh text keeps its
weights.
"""


def main() -> int:
    """Run the benchmark."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    tokens = QUICK_TOKENS if is_quick() else TOKENS
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = search(out=folder / "run", **_options(folder))
        chosen = {share: run.best(f"params<={share}x") for share in BUDGETS}
        shutil.copytree(folder / "run", folder / "alone")
        alone = {
            share: _alone(folder / "alone", plan, tokens // len(BUDGETS))
            for share, plan in chosen.items()
        }
        with run_to_recover(folder / "run", NO_PROGRESS) as (store, prepared):
            healed = heal_front(store, prepared, _settings(tokens), NO_PROGRESS).plans
            dense = store.dense["params"]
    front = {plan.plan_id: plan for plan in healed}
    rows = [_row(share, plan, alone[share], front) for share, plan in chosen.items()]
    whole = [_front_row(plan, dense) for plan in healed]
    notes = NOTES.format(text=text_name(), tokens=tokens)
    goals = _goals(chosen, alone, front)
    return finish("supernet", [*rows, *whole], goals, notes, seed=SEED)


def _options(folder: Path) -> dict[str, Any]:
    return {
        "model": str(demo_model()),
        "seed": SEED,
        "budget": f"params<={BUDGETS[-1] - 0.1:.1f}x",
        "searcher": "one_shot",
        "population": 8,
        "evaluations": 8,
        "calibration_windows": 96,
        "holdout_windows": 16 if is_quick() else 48,
        **text_options(folder),
    }


def _settings(tokens: int) -> HealSettings:
    return HealSettings.checked(
        model="run",
        tokens=tokens,
        windows=WINDOWS,
        window_tokens=WINDOW_TOKENS,
        lr=RATE,
        seed=SEED,
    )


def _alone(folder: Path, plan: Evaluation, tokens: int) -> Evaluation:
    """Heal one plan by itself; return it as it is then."""
    with run_to_recover(folder, NO_PROGRESS) as (run, prepared):
        heal_plan(run, prepared, plan.plan_id, _settings(tokens), NO_PROGRESS)
        found = run.find_plan(plan.plan_id)
    assert found is not None, "a plan that was healed is of its run"
    return found.variant("heal") or plan


def _healed(plan: Evaluation) -> Evaluation:
    return plan.variant("heal") or plan


def _row(
    share: float, plan: Evaluation, alone: Evaluation, front: Mapping[str, Evaluation]
) -> Row:
    with_front = _healed(front[plan.plan_id]).holdout["kl"]
    gap = difference(with_front, alone.holdout["kl"])
    return {
        "budget": f"{share:g}x",
        "searched": str(plan.holdout["kl"]),
        "alone": str(alone.holdout["kl"]),
        "with the front": str(with_front),
        "more than alone": f"{gap.value:+.3f} ± {gap.standard_error:.3f}",
    }


def _front_row(plan: Evaluation, dense: float) -> Row:
    before, after = plan.holdout["kl"], _healed(plan).holdout["kl"]
    change = difference(after, before)
    return {
        "parameters": f"{plan.costs['params'] / dense:.3f}x",
        "searched KL": str(before),
        "healed KL": str(after),
        "change": f"{change.value:+.3f} ± {change.standard_error:.3f}",
    }


def _goals(
    chosen: Mapping[float, Evaluation],
    alone: Mapping[float, Evaluation],
    front: Mapping[str, Evaluation],
) -> list[Goal]:
    def kl(plan: Evaluation) -> float:
        return plan.holdout["kl"].value

    gap = max(kl(_healed(front[p.plan_id])) / kl(alone[s]) - 1 for s, p in chosen.items())
    better = [kl(_healed(plan)) < kl(plan) for plan in front.values()]
    return [
        Goal(
            figure="a budget healed with its front, above one healed alone by at most",
            value=gap,
            limit=0.05,
            at_least=False,
            percent=True,
        ),
        Goal(
            figure="plans of the front that are better than before",
            value=sum(better) / len(better),
            limit=1.0,
            at_least=True,
            percent=True,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
