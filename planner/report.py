"""What a run shows to people: the front as a table and as a picture."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from planner.budget import COST_NAMES, SPARSE_NAMES, format_amount, relative_cost
from planner.evaluation import Evaluation
from planner.front import complete, front
from planner.indicators import Points, hypervolume, reference_kl
from planner.rivalry import rivalry
from planner.run import Run
from planner.stability import Stability
from planner.verdict import Verdict, judged
from search_spaces.errors import SettingsError
from search_spaces.files import replacing

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
_BASELINES = {
    "uniform": "the plan that cuts the same share everywhere",
    "additive": "the best plan if guessed harms added up",
}
"""What the baselines of a run are."""


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
    shown = _shown_costs(frame)
    rows = [_header("", shown)]
    for _, row in frame.iterrows():
        marks = {"→": marked, "knee": knee}
        names = " ".join(mark for mark, plan_id in marks.items() if row["plan_id"] == plan_id)
        rows.append([names, *_cells(row, shown)])
    return aligned(rows)


def answers_table(frame: "pd.DataFrame") -> str:
    """Lay out for a terminal which plan answers each budget, or why none does.

    Args:
        frame: As `Run.answers` gives it.
    """
    shown = _shown_costs(frame)
    rows = [_header("budget", shown)]
    for _, row in frame.iterrows():
        cells = ["none"] + [""] * (len(rows[0]) - 2) if row["refusal"] else _cells(row, shown)
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
        f"KL {with_error(kl.value, kl.standard_error)}; what is saved beyond it costs most"
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


_SHARED = ("params", "nonzero")
"""Costs that are shown as a share of the dense model's too."""


def _header(first: str, names: Sequence[str]) -> list[str]:
    costs = [word for name in names for word in ([name, ""] if name in _SHARED else [name])]
    return [
        first, "plan", *costs, "KL searched", "KL fresh", "KL hold-out", "perplexity", "agreement",
    ]  # fmt: skip


def _shown_costs(frame: "pd.DataFrame") -> list[str]:
    """List the costs of a table; without zeros those that count them say nothing new."""
    same = "nonzero" in frame and bool((frame["nonzero"] == frame["params"]).all())
    hidden = SPARSE_NAMES if same else ()
    return [name for name in COST_NAMES if name in frame and name not in hidden]


def _cells(row: "pd.Series", names: Sequence[str]) -> list[str]:
    costs = []
    for name in names:
        costs.append(format_amount(name, row[name]))
        costs += [f"{row[f'{name}_x']:.3f}x"] if name in _SHARED else []
    quality = [with_error(row["kl"], row["kl_se"]), "", "", "", f"{row['agreement']:.1%}"]
    if not math.isnan(row.get("fresh_kl", math.nan)):
        quality[1] = with_error(row["fresh_kl"], row["fresh_kl_se"])
    if not math.isnan(row.get("holdout_kl", math.nan)):
        quality[2] = with_error(row["holdout_kl"], row["holdout_kl_se"])
        quality[3] = f"{row['holdout_perplexity']:.2f}"
        quality[4] = f"{row['holdout_agreement']:.1%}"
    return [
        row["plan_id"],
        *costs,
        *quality,
    ]


def with_error(value: float, error: float) -> str:
    """Write a value with its standard error."""
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


def compared_with_baselines(run: Run, chosen: Evaluation) -> list[str]:
    """Say whether a plan beats those that take no search, beyond the error.

    Returns:
        A sentence for each that the run has; first one on the plan itself. None where either was
        not scored on hold-out text.
    """
    cost = str(run.get_meta("cost_names")[0])
    against = [
        _against(chosen, baseline, cost, _BASELINES[name])
        for name, baseline in run.baselines().items()
        if _is_finite(chosen) and _is_finite(baseline)
    ]
    if not against:
        return []
    amount = format_amount(cost, chosen.costs[cost])
    return [f"on hold-out text KL {_kl(chosen)} at {cost} {amount}", *against]


def _against(chosen: Evaluation, baseline: Evaluation, cost: str, what: str) -> str:
    if chosen.plan_id == baseline.plan_id:
        return f"it is {what}: the search found none better"
    gain, verdict = judged(chosen.holdout["kl"], baseline.holdout["kl"])
    by = with_error(gain.value, gain.standard_error)
    said: Mapping[Verdict, str] = {
        "better": f"beats it beyond the error, by {by}",
        "perhaps": f"is better, but within the error, by {by}",
        "no better": "does NOT beat it",
    }
    return (
        f"against {_kl(baseline)} at {format_amount(cost, baseline.costs[cost])} for {what}: "
        f"the search {said[verdict]}"
    )


def _is_finite(evaluation: Evaluation) -> bool:
    return "kl" in evaluation.holdout and math.isfinite(evaluation.holdout["kl"].value)


def _kl(evaluation: Evaluation) -> str:
    kl = evaluation.holdout["kl"]
    return with_error(kl.value, kl.standard_error)


def stability_table(found: Stability) -> str:
    """Lay out for a terminal where the plans of a front stand on two draws of the text."""
    rows = [["", "plan", "KL searched", "KL fresh", "rank", "may be", "fresh rank"]]
    for _, plan in found.ranks.iterrows():
        rows.append(
            [
                "moved" if plan["moved"] else "",
                plan["plan_id"],
                with_error(plan["kl"], plan["kl_se"]),
                with_error(plan["fresh_kl"], plan["fresh_kl_se"]),
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
        f"{with_error(abs(gap.value), gap.standard_error)} nats a token on average: {verdict}"
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
            points = frame[[f"{cost}_x", column, f"{column}_se"]]
            draw_series(axes, points, f"front, {name} ± 2 s.e.", style)
    for (name, baseline), marker in zip(run.baselines().items(), "x+", strict=False):
        axes.plot(
            [baseline.costs[cost] / dense], [baseline.holdout["kl"].value],
            marker, color="C3", markersize=9, label=f"{_BASELINES[name]}, hold-out",
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


def draw_series(axes: "Axes", points: "pd.DataFrame", label: str, style: str) -> None:
    """Draw the three columns cost, value and standard error as a line in a band."""
    cost, value, error = (points[column] for column in points.columns)
    (line,) = axes.plot(cost, value, style, markersize=4, label=label)
    axes.fill_between(
        cost, value - 2 * error, value + 2 * error, color=line.get_color(), alpha=0.15, linewidth=0
    )
