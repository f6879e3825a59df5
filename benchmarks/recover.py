"""What recovery takes back of the KL that pruning costs, and in what time."""

import logging
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import text_name, text_options
from benchmarks.hidden_slices import HiddenSlices
from benchmarks.report import Goal, Row, finish, is_quick
from evaluators.metric import Measurement
from planner.cli.commands.demo_command import demo_model
from planner.cli.main import main as command
from planner.recipes import recipe
from planner.recipes.compare import run_comparison
from planner.recovery.opened_run import run_to_recover
from planner.run import Run
from planner.runs.records import LayerRecovery, Recovery
from planner.settings.search import SearchSettings
from search_spaces.progress import NO_PROGRESS

logger = logging.getLogger(__name__)

SEED = 0
BUDGETS = (0.8, 0.7, 0.6, 0.5)
TRAINED = BUDGETS[:1]
"""Budgets at which weights are trained, too: that takes most of the time."""
REFITTED = BUDGETS[:2]
"""Budgets at which the goal of `refit` must hold."""
MINUTES = 6
"""Of healing."""
SEARCH_MINUTES = 2
WINDOWS = 256
"""Of calibration."""
FLAP, ONE_SHOT, SEARCHED = "FLAP", "one-shot", "searched"
RECIPES = {
    SEARCHED: recipe.RECIPES["frontier"],
    ONE_SHOT: recipe.Recipe(
        searcher="one_shot", description="the additive plan", reference="this planner's own"
    ),
    FLAP: recipe.RECIPES["flap"],
}

NOTES = f"""
SmolLM2-135M-Instruct, {{text}}: KL to the dense model on hold-out text, with standard
errors over windows, for plans of equal parameters. *one-shot* is the additive plan, compensated by
`obs` as *searched* is; *FLAP* is its recipe here; *like SliceGPT* projects the hidden states to
their principal components at each layer, as many as a sliced model of that size would keep, with
its rotations counted. *refit*, *block* and *heal* follow each other from the searched plan on:
`block` begins with `refit`, and `heal` ({MINUTES} minutes) with the best of both.
*away* is the share of the KL in the line above it that is gone; *s* is wall time of fitting. A
search has {SEARCH_MINUTES} minutes for all budgets together; statistics, compensation and `refit`
see {WINDOWS} windows of 128 tokens. Weights are trained at
{", ".join(f"{share:g}x" for share in TRAINED)} alone.
"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One way to a model of a budget."""

    budget: float
    way: str
    kl: Measurement
    seconds: float | None = None
    before: Measurement | None = None
    """What it began with; `None`: with the dense model."""

    @property
    def away(self) -> float:
        """The share of the KL that is gone."""
        return 0.0 if self.before is None else 1.0 - self.kl.value / self.before.value

    def row(self) -> Row:
        """Return the line of the table."""
        return {
            "budget": f"{self.budget:g}x",
            "way": self.way,
            "KL": str(self.kl),
            "away": "" if self.before is None else f"{self.away:.0%}",
            "s": "" if self.seconds is None else f"{self.seconds:.0f}",
        }


def main() -> int:
    """Run the benchmark."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        started = time.monotonic()
        runs = _runs(folder)
        logger.info("three searches took %.0f s", time.monotonic() - started)
        with run_to_recover(runs[ONE_SHOT].folder, NO_PROGRESS) as (_, prepared):
            slices = HiddenSlices(prepared)
            sliced = {share: slices.holdout_kl(slices.kept(share)) for share in BUDGETS}
        for share in BUDGETS:
            lines += [
                Line(budget=share, way="like SliceGPT", kl=sliced[share]),
                *(
                    Line(budget=share, way=way, kl=runs[way].best(_budget(share)).holdout["kl"])
                    for way in (FLAP, ONE_SHOT, SEARCHED)
                ),
                *_recovered(runs[SEARCHED], share),
            ]
    notes = NOTES.format(text=text_name())
    return finish("recover", [line.row() for line in lines], _goals(lines), notes, seed=SEED)


def _runs(folder: Path) -> dict[str, Run]:
    """Search by each recipe on one preparation; FLAP's own is of other importances."""
    quick = is_quick()
    settings = SearchSettings.checked(
        model=str(demo_model()),
        seed=SEED,
        budget=_budget(BUDGETS[-1]),
        minutes=1 if quick else SEARCH_MINUTES,
        population=10,
        calibration_windows=64 if quick else WINDOWS,
        fresh_windows=8,
        holdout_windows=16 if quick else 32,
        **text_options(folder),
    )
    out = folder / "runs"
    run_comparison(settings, RECIPES, out, resume=False, progress=NO_PROGRESS)
    return {name: Run.open(out / name) for name in RECIPES}


def _budget(share: float) -> str:
    return f"params<={share}x"


def _recovered(run: Run, share: float) -> list[Line]:
    """Recover the best plan within a budget in all ways that its budget is asked for."""
    plan = run.best(_budget(share))
    lines, best = [], plan.holdout["kl"]
    ways: tuple[LayerRecovery, ...] = ("refit", "block") if share in TRAINED else ("refit",)
    for way in ways:
        plan = run.recover(plan.plan_id, way)
        lines.append(_line(run, share, plan.plan_id, way, best))
        best = lines[-1].kl
    if share in TRAINED:
        minutes = 1 if is_quick() else MINUTES
        status = command(["heal", str(run.folder), "--plan", plan.plan_id, f"--minutes={minutes}"])
        assert status == 0, "the healing ended in an error"
        lines.append(_line(run, share, plan.plan_id, "heal", best))
    return lines


def _line(run: Run, share: float, plan_id: str, way: Recovery, before: Measurement) -> Line:
    """Return what a recovery came to; one that helped nothing leaves all as it was."""
    plan = run.find_plan(plan_id)
    assert plan is not None, "a plan that was recovered is of its run"
    variant, came_to = plan.variant(way), plan.recovered.get(way)
    return Line(
        budget=share,
        way=f"+ {way}",
        kl=before if variant is None else variant.holdout["kl"],
        seconds=None if came_to is None else came_to.seconds,
        before=before,
    )


def _goals(lines: list[Line]) -> list[Goal]:
    """Return what must hold of the recoveries."""

    def least(way: str, shares: tuple[float, ...], figure: str, limit: float) -> Goal:
        found = [line.away for line in lines if line.way == way and line.budget in shares]
        return Goal(figure=figure, value=min(found), limit=limit, at_least=True, percent=True)

    def longest(way: str, figure: str, limit: float) -> Goal:
        found = [line.seconds or 0.0 for line in lines if line.way == way]
        return Goal(figure=figure, value=max(found), limit=limit, at_least=False)

    worst = max(-line.away for line in lines)
    return [
        least("+ refit", REFITTED, "KL that refit takes away", 0.3),
        longest("+ refit", "seconds of refit", 180),
        least("+ block", TRAINED, "of what is left, block", 0.1),
        longest("+ block", "seconds of block", 600),
        least("+ heal", TRAINED, "of what is left then, healing", 0.2),
        Goal(figure="worse in any row by", value=worst, limit=0.0, at_least=False, percent=True),
    ]


if __name__ == "__main__":
    sys.exit(main())
