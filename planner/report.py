"""What a run shows to people: the front as a table and as a picture."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from evaluators.metric import Measurement
from planner.budget import COST_NAMES, MEASURED_NAMES, format_amount
from planner.evaluation import Evaluation
from planner.files import replacing
from planner.run import Run

PICTURE = "front.png"


def front_table(frame: pd.DataFrame, *, marked: str | None = None) -> str:
    """Lay out a front for a terminal.

    Args:
        frame: As `Run.front` gives it.
        marked: Id of a plan to point at.
    """
    measured = [name for name in MEASURED_NAMES if name in frame]
    header = ["", "plan", "params", "", "size", "macs", "kv", *measured]
    rows = [[*header, "KL", "KL hold-out", "perplexity", "agreement"]]
    rows += [_cells(row, marked) for _, row in frame.iterrows()]
    return aligned(rows)


def _cells(row: pd.Series, marked: str | None) -> list[str]:
    params, *others = (format_amount(name, row[name]) for name in COST_NAMES if name in row)
    quality = [_with_error(row["kl"], row["kl_se"]), "", "", f"{row['agreement']:.1%}"]
    if not math.isnan(row.get("holdout_kl", math.nan)):
        quality[1] = _with_error(row["holdout_kl"], row["holdout_kl_se"])
        quality[2] = f"{row['holdout_perplexity']:.2f}"
        quality[3] = f"{row['holdout_agreement']:.1%}"
    return [
        "→" if row["plan_id"] == marked else "",
        row["plan_id"],
        params,
        f"{row['params_x']:.3f}x",
        *others,
        *quality,
    ]


def _with_error(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows in columns: the first two to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def compared_with_uniform(run: Run, chosen: Evaluation) -> str | None:
    """Say whether a plan beats the one that cuts the same share everywhere, beyond the error.

    Returns:
        A sentence; none where the run has no such plan.
    """
    uniform = run.uniform
    if uniform is None or "kl" not in uniform.holdout or "kl" not in chosen.holdout:
        return None
    ours, theirs = chosen.holdout["kl"], uniform.holdout["kl"]
    return (
        f"on hold-out text KL {_with_error(ours.value, ours.standard_error)} at "
        f"{format_amount('params', chosen.costs['params'])} parameters, against "
        f"{_with_error(theirs.value, theirs.standard_error)} at "
        f"{format_amount('params', uniform.costs['params'])} for the plan that cuts the same "
        f"share everywhere: the search {_verdict(ours, theirs)}"
    )


def _verdict(ours: Measurement, theirs: Measurement) -> str:
    # a cautious bound: the same windows scored both, so the error of the difference is smaller
    margin = 2 * (ours.standard_error**2 + theirs.standard_error**2) ** 0.5
    if ours.value < theirs.value - margin:
        return "beats it beyond the error"
    if ours.value < theirs.value:
        return "is better, but within two standard errors"
    return "does NOT beat it"


def draw_front(run: Run, path: Path) -> None:
    """Draw KL against the first cost for every plan scored, with the front and its errors.

    Args:
        run: The run.
        path: Of the picture, PNG.
    """
    # Figure and not pyplot: no global state, no window, no configuration
    from matplotlib.figure import Figure  # noqa: PLC0415  (a second, and only pictures need it)

    frame, cost = run.front(), str(run.get_meta("cost_names")[0])
    dense = run.dense[cost]
    others = run.evaluations()
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(
        [e.costs[cost] / dense for e in others],
        [e.quality["kl"].value for e in others],
        s=10, color="0.75", label=f"all {len(others)} plans scored",
    )  # fmt: skip
    axes.errorbar(
        frame[f"{cost}_x"], frame["kl"], yerr=2 * frame["kl_se"],
        marker="o", markersize=4, capsize=2, color="C0", label="front, calibration ± 2 s.e.",
    )  # fmt: skip
    if "holdout_kl" in frame:
        axes.errorbar(
            frame[f"{cost}_x"], frame["holdout_kl"], yerr=2 * frame["holdout_kl_se"],
            marker="s", markersize=3, capsize=2, color="C1", linestyle=":",
            label="front, hold-out ± 2 s.e.",
        )  # fmt: skip
    if (uniform := run.uniform) is not None:
        axes.plot(
            [uniform.costs[cost] / dense], [uniform.holdout["kl"].value],
            "x", color="C3", markersize=9, label="same share cut everywhere, hold-out",
        )  # fmt: skip
    axes.set_xlabel(f"{cost}, as a share of the dense model's")
    axes.set_ylabel("KL to the dense model (nats a token)")
    axes.set_ylim(bottom=0, top=1.15 * max(frame["kl"].max(), _highest(frame), 0.01))
    axes.set_title(f"{Path(run.settings.model).name}: {cost} against quality")
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as whole:
        figure.savefig(whole, dpi=120)


def _highest(frame: pd.DataFrame) -> float:
    return float(frame["holdout_kl"].max()) if "holdout_kl" in frame else 0.0
