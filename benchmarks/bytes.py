"""How good a model of so many bytes is: pruned, in fewer bits, and both chosen together."""

import logging
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import text_name, text_options
from benchmarks.full_precision import SEED, FullPrecision, full_precision
from benchmarks.report import Goal, Row, finish
from benchmarks.rounding import feedback_goal, rounding_gains
from evaluators.metric import Measurement
from planner.cli.terminal import Terminal
from planner.export.cards.manifest import Manifest
from planner.export.run_exports import RunExports
from planner.recipes.compare import compare
from planner.recovery.opened_run import run_to_recover
from planner.recovery.recover import recover
from planner.results.significance import Verdict, compare_kl
from planner.run import Run, search
from planner.runs.folder import MANIFEST_FILE
from planner.runs.records import Evaluation
from planner.targets.target_names import TargetChoice
from search_spaces.errors import BudgetError
from search_spaces.progress import Progress

logger = logging.getLogger(__name__)

LEAST = 0.27
"""About what formats alone come down to: the fewest bits of the model's rows of 576 are 4.5."""
ABOVE_ALL = 0.26
"""That in fact, and a budget that is none of the sizes at which ways are compared: a search has a
plan of exactly its budget, and else the next smaller one of its front."""
SIZES = (0.5, 0.4, 0.3, LEAST, 0.25, 0.2, 0.17)
"""Bytes of weights, as shares of those in bfloat16."""
SMALLEST = SIZES[4:]
CHECKED = (0.3, 0.2)
"""Sizes at which a file is written and run in llama.cpp."""
SINGLE, SEARCHED, FISHER, PRUNED, JOINT = (
    "one format for all",
    "formats",
    "Fisher + knapsack",
    "pruning",
    "both",
)
WAYS = (SINGLE, SEARCHED, FISHER, PRUNED, JOINT)
ROUNDED = "to the nearest"
"""One format for all, rounded without error feedback."""
_RECIPES = {SINGLE: "uniform", SEARCHED: "frontier", FISHER: "autoquantize"}
_UNITS = "heads,channels,drops"
SPENT = {SEARCHED: 50_000, JOINT: 90_000}
"""Candidate tokens of a search, those of gradients included."""
POPULATION = 24
"""Plans of the other ways, at most, between the dense model and their smallest."""
WINDOWS, CALIBRATION_WINDOWS, HOLDOUT_WINDOWS, WINDOW_TOKENS = 8, 96, 8, 128
REFITTED = {PRUNED: (0.5,), JOINT: SMALLEST}
"""Sizes at which plans are refitted: pruned, and of some use."""
BETWEEN = 10
"""Budgets between the largest and the smallest that one run must answer without a new plan."""


def _listed(sizes: Iterable[float]) -> str:
    return ", ".join(f"{size:g}x" for size in sizes)


NOTES = f"""
SmolLM2-135M-Instruct made a model of full precision (its file is of 4 bits): {{model}}. Text:
{{text}}. Each cell: KL to that model on hold-out text, nats a token, with its error over
{HOLDOUT_WINDOWS} windows of {WINDOW_TOKENS} tokens, for the best plan whose weights are at most
so many bytes of those in bfloat16.

- *{SINGLE}*: the best of GGUF's formats Q8_0 … Q2_K in every matrix.
- *{SEARCHED}*: `--space formats`; *{FISHER}*: `--searcher autoquantize`.
- *{PRUNED}*: heads, channels and drops in bfloat16, the best of plans by sensitivities that add up
  (`--searcher one_shot`); *{JOINT}*: these and formats in one search. The plans at
  {_listed(REFITTED[PRUNED])} and at {_listed(REFITTED[JOINT])} are refitted (`planner recover`),
  and count so where that helps on text of its own.

*{SEARCHED}* has {SPENT[SEARCHED]:,} tokens of candidates, on {WINDOWS} windows at most, and
*{JOINT}* {SPENT[JOINT]:,}; the other ways are up to {POPULATION} plans each. All fits are on
{CALIBRATION_WINDOWS} windows. The table took {{minutes:.0f}} minutes, with the model there.

**Formats alone end at {{least:.3f}}x.** GGUF's K-quants take rows of 256 inputs, and this model's
hidden states are 576 wide: all matrices but one of each MLP have 4.5 bits a weight at the least.
Below that, *{JOINT} against {SEARCHED}* is against their plan at {LEAST}x, which is larger: better
means fewer bytes and a lower KL, and a dash that it is not, which says nothing of a plan of
formats at that size, for there is none. A dash in a cell: no plan is so small.

*Error feedback* (GPTQ, in all columns) against rounding to the nearest, one format for all:
{{rounding}}.

*in llama.cpp*: the file of the plan for {JOINT}, at some sizes: whether its tensors are as many
bytes as promised, and its KL there within two errors of the one that was scored.
"""


Kls = Mapping[tuple[str, float], Measurement]
"""On hold-out text, by way and size, as far as there are plans."""


def main() -> int:
    """Measure, report, and return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch, Terminal() as progress:
        folder, model = Path(scratch), full_precision(progress)
        started = time.monotonic()
        runs = _runs(model, folder, progress)
        best = {way: _best(way, runs[way], progress) for way in WAYS}
        held = _held(runs[JOINT], best[JOINT], folder, progress)
        unanswered = _unanswered(runs[JOINT])
        minutes = (time.monotonic() - started) / 60
    kls = {(way, size): plan.holdout["kl"] for way in WAYS for size, plan in best[way].items()}
    rows = [_row(kls, size, held) for size in SIZES]
    rounding = rounding_gains(runs[SINGLE], runs[ROUNDED])
    least = runs[SEARCHED].smallest["size"] / runs[SEARCHED].dense["size"]
    notes = NOTES.format(
        model=model,
        text=text_name(),
        minutes=minutes,
        least=least,
        rounding="; ".join(f"at {size} {text}" for size, (text, _) in rounding.items()),
    )
    by_feedback = [verdict for _, verdict in rounding.values()]
    asked = [*goals(kls, held, unanswered), feedback_goal(by_feedback)]
    return finish("bytes", rows, asked, notes, seed=SEED)


def _runs(model: FullPrecision, folder: Path, progress: Progress) -> Mapping[str, Run]:
    """Search in each way; formats alone are compared on one preparation, without baselines."""
    common = {"model": str(model.folder), "progress": progress, **_options(folder)}
    compare(
        out=folder / "formats",
        recipes=list(_RECIPES.values()),
        space="formats",
        budget=f"size<={ABOVE_ALL}x",
        tokens=SPENT[SEARCHED],
        **common,
    )
    rounded = {
        "space": "formats",
        "budget": f"size<={ABOVE_ALL}x",
        "searcher": "uniform",
        "quantizer": "rtn",
        "evaluations": POPULATION // 3,
        "population": POPULATION // 3,
    }
    pruned = {
        "space": _UNITS,
        "budget": f"size<={SMALLEST[0]}x",
        "searcher": "one_shot",
        "evaluations": POPULATION // 3,
        "population": POPULATION // 3,
    }
    joint = {
        "space": f"{_UNITS},formats",
        "budget": f"size<={SMALLEST[-1]}x",
        "tokens": SPENT[JOINT],
    }
    return {
        **{way: Run.open(folder / "formats" / recipe) for way, recipe in _RECIPES.items()},
        ROUNDED: search(out=folder / "rounded", **common | rounded),
        PRUNED: search(out=folder / "pruned", **common | pruned),
        JOINT: search(out=folder / "both", **common | joint),
    }


def _options(folder: Path) -> dict[str, Any]:
    return {
        "seed": SEED,
        "loads_in": "llama.cpp",
        "population": POPULATION,
        "search_windows": WINDOWS,
        "calibration_windows": CALIBRATION_WINDOWS,
        "fresh_windows": 2,
        "holdout_windows": HOLDOUT_WINDOWS,
        "window_tokens": WINDOW_TOKENS,
        # what is timed here is of no account
        "prompt_tokens": 8,
        "new_tokens": 1,
        **text_options(folder),
    }


def _best(way: str, run: Run, progress: Progress) -> Mapping[float, Evaluation]:
    """Return the best plan of a run within each size that it reaches, refitted at some."""
    plans: dict[float, Evaluation] = {}
    for size in SIZES:
        try:
            plans[size] = run.best(f"size<={size}x")
        except BudgetError:
            continue
    chosen = {size: plans[size].plan_id for size in REFITTED.get(way, ()) if size in plans}
    _refit(run, chosen.values(), progress)
    for size, plan_id in chosen.items():
        refitted = run.find_plan(plan_id)
        assert refitted is not None, "a plan that was refitted is of its run"
        plans[size] = refitted.variant("refit") or refitted
    return plans


def _refit(run: Run, plan_ids: Iterable[str], progress: Progress) -> None:
    """Refit plans of a run, whose model is opened once."""
    if ordered := sorted(set(plan_ids)):
        with run_to_recover(run.folder, progress) as (opened, prepared):
            for plan_id in ordered:
                recover(opened, prepared, plan_id, "refit", progress)


def _held(
    run: Run, plans: Mapping[float, Evaluation], folder: Path, progress: Progress
) -> Mapping[float, bool]:
    """Return for some sizes whether a plan's file holds in llama.cpp what was promised of it."""
    names = {size: plans[size].plan_id for size in CHECKED if size in plans}
    exports = RunExports(run, list(names.values()), progress=progress)
    held: dict[float, bool] = {}
    for size, name in names.items():
        out = folder / f"file-{size:g}"
        exports.export(name, out, TargetChoice(name="gguf"))
        manifest = Manifest.model_validate_json((out / MANIFEST_FILE).read_text(encoding="utf-8"))
        kl = manifest.service.kl
        assert kl is not None, "there is hold-out text"
        held[size] = manifest.written_size is None and kl.is_as_promised(manifest.holdout["kl"])
        logger.info("%gx in llama.cpp: KL %s, promised %s", size, kl, plans[size].holdout["kl"])
    return held


def _unanswered(run: Run) -> int:
    """Return how many of some budgets a run has no plan for, without scoring any."""
    before = run.revision
    budgets = [f"size<={size:.4f}x" for size in np.linspace(SIZES[0], SIZES[-1], BETWEEN)]
    refused = (run.answers(budgets)["refusal"] != "").sum()
    assert run.revision == before, "answers are read off the run"
    return int(refused)


def _verdict(kls: Kls, ours: str, theirs: str, size: float) -> Verdict | None:
    """Say whether one way is better than another at a size; None: one of them has no plan."""
    if (ours, size) not in kls or (theirs, size) not in kls:
        return None
    return compare_kl(kls[ours, size], kls[theirs, size])[1]


def _are_both_better(kls: Kls, size: float) -> bool:
    """Return whether both are better than formats, at a size or at the least that these have."""
    reached = size if (SEARCHED, size) in kls else LEAST
    if (JOINT, size) not in kls or (SEARCHED, reached) not in kls:
        return False
    return compare_kl(kls[JOINT, size], kls[SEARCHED, reached])[1] == "better"


def _row(kls: Kls, size: float, held: Mapping[float, bool]) -> Row:
    below = f"better than at {LEAST}x" if _are_both_better(kls, size) else "–"
    return {
        "size": f"{size:g}x",
        **{way: str(kls[way, size]) if (way, size) in kls else "–" for way in WAYS},
        f"{SEARCHED} against {SINGLE}": _verdict(kls, SEARCHED, SINGLE, size) or "–",
        f"{JOINT} against {SEARCHED}": _verdict(kls, JOINT, SEARCHED, size) or below,
        "in llama.cpp": ("yes" if held[size] else "no") if size in held else "",
    }


def goals(kls: Kls, held: Mapping[float, bool], unanswered: int) -> list[Goal]:
    """Return what must hold."""

    def count(figure: str, value: int, limit: int, *, at_least: bool = True) -> Goal:
        return Goal(figure=figure, value=value, limit=limit, at_least=at_least)

    def better(ours: str, theirs: str) -> int:
        return sum(_verdict(kls, ours, theirs, size) == "better" for size in SIZES)

    reached = sum((SEARCHED, size) in kls for size in SIZES)
    smaller = sum(_are_both_better(kls, size) for size in SMALLEST)
    broken = sum(not each for each in held.values())
    return [
        count(f"of {reached} sizes, formats beat the best one at", better(SEARCHED, SINGLE), 3),
        count(f"of the three smallest, both beat formats there or at {LEAST}x", smaller, 2),
        count("sizes at which both lose", better(SEARCHED, JOINT), 0, at_least=False),
        count(f"of {len(held)} files, not as promised", broken, 0, at_least=False),
        count(f"of {BETWEEN} budgets between, unanswered", unanswered, 0, at_least=False),
    ]


if __name__ == "__main__":
    sys.exit(main())
