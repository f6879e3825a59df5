"""How good a model of so many bytes is: pruned, in fewer bits, and both chosen together."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import text_name, text_options
from benchmarks.full_precision import write_full_precision
from benchmarks.report import Goal, Row, finish, is_quick
from evaluators.metric import Measurement
from planner.export.cards.manifest import Manifest
from planner.recipes.compare import compare
from planner.results.significance import Verdict, compare_kl
from planner.run import Run, search
from planner.runs.folder import MANIFEST_FILE
from planner.runs.records import Evaluation
from search_spaces.errors import BudgetError

SEED = 0
SIZES = (0.5, 0.4, 0.3, 0.25, 0.2, 0.17)
"""Bytes of weights, as shares of those in bfloat16."""
SMALLEST = SIZES[3:]
SINGLE, SEARCHED, FISHER, PRUNED, JOINT = (
    "one format for all",
    "formats",
    "Fisher + knapsack",
    "pruning",
    "both",
)
WAYS = (SINGLE, SEARCHED, FISHER, PRUNED, JOINT)
_RECIPES = {SINGLE: "uniform", SEARCHED: "frontier", FISHER: "autoquantize"}
_UNITS = "heads,channels,drops"
BETWEEN = 10
"""Budgets between the largest and the smallest that one run must answer without a new plan."""
FULL_PRECISION = "FULL_PRECISION"
"""Environment variable that names a folder to keep the model in, or to take it from."""

NOTES = f"""
SmolLM2-135M-Instruct made a model of full precision (its file is of 4 bits: weights moved at
random within their steps, then healed), {{text}}. Each cell: KL to that model on hold-out text,
nats a token, with its error over windows, for the best plan whose weights are at most so many
bytes of those in bfloat16. *{SINGLE}*: the best of GGUF's formats in every matrix. *{SEARCHED}*:
`--space formats`. *{FISHER}*: `--searcher autoquantize`. *{PRUNED}*: heads, channels and drops in
bfloat16. *{JOINT}*: all of these in one search. Pruned plans are refitted (`planner recover`)
where that helps on fresh text. A dash: no plan is so small. GGUF's K-quants take rows of 256
inputs; SmolLM2's hidden states are 576 wide, so that its fewest bits are 4.5 in all matrices but
one of each MLP.

*in llama.cpp*: the file of the plan for both: whether its tensors are as many bytes as promised,
and its KL there within two errors of the one that was scored.
"""


@dataclass(frozen=True, kw_only=True)
class Point:
    """The best plan of one way to a size."""

    way: str
    size: float
    run: Run
    plan: Evaluation

    @property
    def kl(self) -> Measurement:
        """On hold-out text."""
        return self.plan.holdout["kl"]


def main() -> int:
    """Measure, report, and return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = Path(os.environ.get(FULL_PRECISION) or folder / "model")
        write_full_precision(model, minutes=1 if is_quick() else 10, seed=SEED)
        runs = _runs(model, folder)
        points = {
            (point.way, point.size): point
            for way, run in runs.items()
            for point in _points(way, run)
        }
        held = [_is_as_promised(points[JOINT, size], folder) for size in _reached(points, JOINT)]
        unanswered = _unanswered(runs[JOINT])
        rows = [_row(points, size, held) for size in SIZES]
    notes = NOTES.format(text=text_name())
    return finish("bytes", rows, _goals(points, held, unanswered), notes, seed=SEED)


def _runs(model: Path, folder: Path) -> Mapping[str, Run]:
    """Search in each way; formats alone are compared on one preparation, without baselines."""
    options = _options(folder)
    # below it GGUF's formats of this model end
    compare(
        str(model),
        budget="size<=0.3x",
        out=folder / "formats",
        recipes=list(_RECIPES.values()),
        space="formats",
        **options,
    )
    alone = {way: Run.open(folder / "formats" / recipe) for way, recipe in _RECIPES.items()}
    both: dict[str, Any] = {"space": f"{_UNITS},formats", "budget": f"size<={SIZES[-1]}x"}
    pruned: dict[str, Any] = {"space": _UNITS, "budget": "size<=0.3x"}
    return {
        **alone,
        PRUNED: search(str(model), out=folder / "pruned", **options, **pruned),
        JOINT: search(str(model), out=folder / "both", **options, **both),
    }


def _options(folder: Path) -> dict[str, Any]:
    quick = is_quick()
    return {
        "seed": SEED,
        "loads_in": "llama.cpp",
        "minutes": 1 if quick else 20,
        "calibration_windows": 64 if quick else 384,
        "holdout_windows": 16 if quick else 48,
        **text_options(folder),
    }


def _points(way: str, run: Run) -> Iterator[Point]:
    """Yield the best plan of a run within each size, refitted if it was pruned."""
    for size in SIZES:
        try:
            plan = run.best(f"size<={size}x")
        except BudgetError:
            continue
        if way in {PRUNED, JOINT}:
            plan = run.recover(plan.plan_id)
            plan = plan.variant("refit") or plan
        yield Point(way=way, size=size, run=run, plan=plan)


def _is_as_promised(point: Point, folder: Path) -> bool:
    """Return whether a plan's file holds in llama.cpp what was promised of it."""
    out = folder / f"file-{point.size:g}"
    point.run.export(point.plan.plan_id, out, format="gguf")
    manifest = Manifest.model_validate_json((out / MANIFEST_FILE).read_text(encoding="utf-8"))
    kl = manifest.service.kl
    assert kl is not None, "there is hold-out text"
    return manifest.written_size is None and kl.is_as_promised(manifest.holdout["kl"])


def _unanswered(run: Run) -> int:
    """Return how many of some budgets a run has no plan for, without scoring any."""
    before = run.revision
    budgets = [f"size<={size:.4f}x" for size in np.linspace(SIZES[0], SIZES[-1], BETWEEN)]
    refused = run.answers(budgets)["refusal"].notna().sum()
    assert run.revision == before, "answers are read off the run"
    return int(refused)


Points = Mapping[tuple[str, float], Point]


def _reached(points: Points, way: str) -> list[float]:
    return [size for size in SIZES if (way, size) in points]


def _verdict(points: Points, ours: str, theirs: str, size: float) -> Verdict:
    """Say whether one way is better than another at a size; one that has no plan is worse."""
    if (theirs, size) not in points or (ours, size) not in points:
        return "better" if (ours, size) in points else "no better"
    return compare_kl(points[ours, size].kl, points[theirs, size].kl)[1]


def _row(points: Points, size: float, held: list[bool]) -> Row:
    reached = _reached(points, JOINT)
    return {
        "size": f"{size:g}x",
        **{way: str(points[way, size].kl) if (way, size) in points else "–" for way in WAYS},
        f"{SEARCHED} against {SINGLE}": _verdict(points, SEARCHED, SINGLE, size),
        f"{JOINT} against {SEARCHED}": _verdict(points, JOINT, SEARCHED, size),
        "in llama.cpp": ("yes" if held[reached.index(size)] else "no") if size in reached else "–",
    }


def _goals(points: Points, held: list[bool], unanswered: int) -> list[Goal]:
    """Return what must hold."""

    def count(figure: str, value: int, limit: int, *, at_least: bool = True) -> Goal:
        return Goal(figure=figure, value=value, limit=limit, at_least=at_least)

    def better(ours: str, theirs: str, sizes: tuple[float, ...]) -> int:
        return sum(_verdict(points, ours, theirs, size) == "better" for size in sizes)

    return [
        count(
            "sizes at which formats beat the best single one", better(SEARCHED, SINGLE, SIZES), 3
        ),
        count("of the three smallest, both beat formats", better(JOINT, SEARCHED, SMALLEST), 2),
        count("sizes at which both lose", better(SEARCHED, JOINT, SIZES), 0, at_least=False),
        count("files not as promised", held.count(False), 0, at_least=False),
        count(f"of {BETWEEN} budgets between, unanswered", unanswered, 0, at_least=False),
    ]


if __name__ == "__main__":
    sys.exit(main())
