"""What a run shows to people: the front as a table and as a picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.metric import Measurement
from planner.budget import COST_NAMES, MEASURED_NAMES, format_amount, relative_cost
from planner.evaluation import Evaluation
from planner.files import replacing
from planner.front import complete, front
from planner.indicators import Points, hypervolume, margin, reference_kl
from planner.rivalry import rivalry
from planner.run import Run
from planner.stability import Stability
from search_spaces.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PICTURE = "front.png"
_SERIES = (
    ("kl", "text searched on", "oC0-"),
    ("fresh_kl", "fresh text", "^C2--"),
    ("holdout_kl", "hold-out text", "sC1:"),
)
"""Columns of a front that are drawn, each with its name and style."""


def front_table(
    frame: "pd.DataFrame", *, marked: str | None = None, knee: str | None = None
) -> str:
    """Lay out a front for a terminal.

    KL stands there thrice: as the search saw it, which flatters; on a fresh draw of the same text;
    and on hold-out text, which perplexity and agreement are of too.

    Args:
        frame: As `Run.front` gives it.
        marked: Id of a plan to point at.
        knee: Id of the front's knee.
    """
    rows = [_header("", frame)]
    for _, row in frame.iterrows():
        marks = {"→": marked, "knee": knee}
        names = " ".join(mark for mark, plan_id in marks.items() if row["plan_id"] == plan_id)
        rows.append([names, *_cells(row)])
    return aligned(rows)


def answers_table(frame: "pd.DataFrame") -> str:
    """Lay out for a terminal which plan answers each budget, or why none does.

    Args:
        frame: As `Run.answers` gives it.
    """
    rows = [_header("budget", frame)]
    for _, row in frame.iterrows():
        cells = ["none"] + [""] * (len(rows[0]) - 2) if row["refusal"] else _cells(row)
        rows.append([row["budget"], *cells])
    header, *lines = aligned(rows).splitlines()
    # a sentence would widen its column for all
    said = zip(lines, frame["refusal"], strict=True)
    return "\n".join([header, *(f"{line}: {why}" if why else line for line, why in said)])


def front_sentence(run: Run, *, reference: float | None = None) -> str:
    """Say how large the hypervolume of a run's front is, against what, and where its knee lies.

    Args:
        run: The run.
        reference: The KL to measure against; none: a tenth beyond the front's worst.

    Raises:
        SettingsError: The reference is not above 0.
    """
    if reference is not None and not 0 < reference < math.inf:
        raise SettingsError(
            f"`reference` must be a KL above 0, got {reference:g}; give one that both fronts to "
            "be compared stay below"
        )
    names, dense = run.get_meta("cost_names"), run.dense
    points = Points.of(front(run.evaluations(), names), names, dense)
    against = reference_kl(points) if reference is None else reference
    corner = " and ".join(["KL 0", *(f"no {name}" for name in names)])
    volume = (
        f"hypervolume {hypervolume(points, against):.4f} of the box from {corner} to KL "
        f"{against:.4g} at the dense model's (other runs compare at --reference {against:.4g})"
    )
    found = run.knee()
    if found is None:
        return f"{volume}\nknee: none, for no plan lies below the line between the front's ends"
    costs = ", ".join(f"{n} {relative_cost(n, found.costs[n], dense):.3f}x" for n in names)
    kl = found.quality["kl"]
    return (
        f"{volume}\nknee: plan {found.plan_id} at {costs}, "
        f"KL {_with_error(kl.value, kl.standard_error)}; what is saved beyond it costs most"
    )


def rivalry_sentences(ours: Run, theirs: Run) -> str:
    """Say how the fronts of two runs stand against each other on hold-out text."""
    *standings, reference = rivalry(ours, theirs)
    lines = [f"on hold-out text, hypervolumes to KL {reference:.4g}:"]
    for run, found in zip((ours, theirs), standings, strict=True):
        lines.append(
            f"  {run.folder}: hypervolume {found.hypervolume:.4f}; {found.beaten} of "
            f"{found.plans} plans beaten by the other run, {found.beaten_beyond} beyond the error"
        )
    return "\n".join(lines)


def _header(first: str, frame: "pd.DataFrame") -> list[str]:
    measured = [name for name in MEASURED_NAMES if name in frame]
    costs = ["params", "", "size", "macs", "kv", *measured]
    return [
        first, "plan", *costs, "KL searched", "KL fresh", "KL hold-out", "perplexity", "agreement",
    ]  # fmt: skip


def _cells(row: "pd.Series") -> list[str]:
    params, *others = (format_amount(name, row[name]) for name in COST_NAMES if name in row)
    quality = [_with_error(row["kl"], row["kl_se"]), "", "", "", f"{row['agreement']:.1%}"]
    if not math.isnan(row.get("fresh_kl", math.nan)):
        quality[1] = _with_error(row["fresh_kl"], row["fresh_kl_se"])
    if not math.isnan(row.get("holdout_kl", math.nan)):
        quality[2] = _with_error(row["holdout_kl"], row["holdout_kl_se"])
        quality[3] = f"{row['holdout_perplexity']:.2f}"
        quality[4] = f"{row['holdout_agreement']:.1%}"
    return [
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
    if not math.isfinite(ours.value + theirs.value):
        return None
    cost = str(run.get_meta("cost_names")[0])
    return (
        f"on hold-out text KL {_with_error(ours.value, ours.standard_error)} at {cost} "
        f"{format_amount(cost, chosen.costs[cost])}, against "
        f"{_with_error(theirs.value, theirs.standard_error)} at "
        f"{format_amount(cost, uniform.costs[cost])} for the plan that cuts the same "
        f"share everywhere: the search {_verdict(ours, theirs)}"
    )


def _verdict(ours: Measurement, theirs: Measurement) -> str:
    if ours.value < theirs.value - margin(ours.standard_error, theirs.standard_error):
        return "beats it beyond the error"
    if ours.value < theirs.value:
        return "is better, but within two standard errors"
    return "does NOT beat it"


def stability_table(found: Stability) -> str:
    """Lay out for a terminal where the plans of a front stand on two draws of the text."""
    rows = [["", "plan", "KL searched", "KL fresh", "rank", "may be", "fresh rank"]]
    for _, plan in found.ranks.iterrows():
        rows.append(
            [
                "moved" if plan["moved"] else "",
                plan["plan_id"],
                _with_error(plan["kl"], plan["kl_se"]),
                _with_error(plan["fresh_kl"], plan["fresh_kl_se"]),
                f"{plan['rank']:g}",
                f"{plan['rank_least']}–{plan['rank_most']}",
                f"{plan['fresh_rank']:g}",
            ]
        )
    return aligned(rows)


def stability_sentences(found: Stability) -> str:
    """Say whether a front would look the same on other text of the same kind."""
    moved = list(found.ranks["plan_id"][found.ranks["moved"]])
    gap = found.optimism
    if gap.value > 2 * gap.standard_error:
        verdict = "the search flatters itself, so go by the fresh and hold-out figures"
    else:
        verdict = "the search does not flatter itself beyond the error"
    return (
        f"order: Spearman {found.spearman:.3f} between both rankings (1: the same, 0: unrelated); "
        f"{len(moved) or 'none'} of {len(found.ranks)} plans moved to a rank that the errors of "
        f"the searched KL do not allow\n"
        f"level: on fresh text KL is {'higher' if gap.value > 0 else 'lower'} by "
        f"{_with_error(abs(gap.value), gap.standard_error)} nats a token on average: {verdict}"
    )


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
    others = complete(run.evaluations())
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(
        [e.costs[cost] / dense for e in others],
        [e.quality["kl"].value for e in others],
        s=10, color="0.75", label=f"all {len(others)} plans scored in full",
    )  # fmt: skip
    for column, name, style in _SERIES:
        if column in frame:
            _draw_series(axes, frame[[f"{cost}_x", column, f"{column}_se"]], name, style)
    if (uniform := run.uniform) is not None:
        axes.plot(
            [uniform.costs[cost] / dense], [uniform.holdout["kl"].value],
            "x", color="C3", markersize=9, label="same share cut everywhere, hold-out",
        )  # fmt: skip
    axes.set_xlabel(f"{cost}, as a share of the dense model's")
    axes.set_ylabel("KL to the dense model (nats a token)")
    highest = max(frame[column].max() for column, _, _ in _SERIES if column in frame)
    axes.set_ylim(bottom=0, top=1.15 * max(highest, 0.01))
    axes.set_title(f"{Path(run.settings.model).name}: {cost} against quality")
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as whole:
        figure.savefig(whole, dpi=120)


def _draw_series(axes: "Axes", points: "pd.DataFrame", name: str, style: str) -> None:
    """Draw the three columns cost, value and standard error as a line in a band."""
    cost, value, error = (points[column] for column in points.columns)
    (line,) = axes.plot(cost, value, style, markersize=4, label=f"front, {name} ± 2 s.e.")
    axes.fill_between(
        cost, value - 2 * error, value + 2 * error, color=line.get_color(), alpha=0.15, linewidth=0
    )
