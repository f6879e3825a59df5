"""What a run shows to people: the front as a table and as a picture."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from planner.reports.sentences import with_error
from planner.results.stability import Stability
from planner.settings.budget import COST_NAMES, SPARSE_NAMES, format_amount

if TYPE_CHECKING:
    import pandas as pd


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
