"""A run's front, answers and stability as tables for a terminal."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from evaluators.metric import COST_KINDS, METRICS, front_metrics, metric_names
from planner.reports.sentences import with_error
from planner.results.equal_cost import EqualCost
from planner.results.stability import Stability

if TYPE_CHECKING:
    import pandas as pd


_HEADER, _MARKED, _KNEE, _FAINT = "bold", "bold green", "cyan", "dim"
"""Styles of lines on a terminal; none tells what its line does not say."""


def front_table(
    frame: "pd.DataFrame", *, marked: str | None = None, knee: str | None = None
) -> Text:
    """Return a front as a table.

    KL has three columns: on the search text, which is optimistic; on a fresh draw of the same
    text; and on held-out text, which the other metrics of quality are shown of.

    Args:
        frame: As `Run.front` returns it.
        marked: Id of a plan to point at.
        knee: Id of the front's knee.
    """
    marks = {"→": marked, "knee": knee}
    marked_rows = [
        [mark for mark, plan_id in marks.items() if row_id == plan_id]
        for row_id in frame["plan_id"]
    ]
    rows = plan_rows(frame, "", [" ".join(each) for each in marked_rows])
    styles = [{"→": _MARKED, "knee": _KNEE}[each[0]] if each else "" for each in marked_rows]
    return styled(aligned(rows).splitlines(), [_HEADER, *styles])


def plan_rows(frame: "pd.DataFrame", title: str, first: Sequence[str]) -> list[list[str]]:
    """Return plans as the rows of a table under a header, with a column before them.

    Args:
        frame: With the columns of `Run.front`.
        title: Of the first column.
        first: Its cells, one a plan.
    """
    names = _shown_costs(frame)
    rows = [_header(title, names)]
    for cell, (_, row) in zip(first, frame.iterrows(), strict=True):
        rows.append([cell, *_cells(row, names)])
    return rows


def answers_table(frame: "pd.DataFrame") -> Text:
    """Return as a table which plan answers each budget, or why none does.

    Args:
        frame: As `Run.answers` returns it.
    """
    cost_names = _shown_costs(frame)
    rows = [_header("budget", cost_names)]
    for _, row in frame.iterrows():
        empty = ["none"] + [""] * (len(rows[0]) - 2)
        rows.append([row["budget"], *(empty if row["refusal"] else _cells(row, cost_names))])
    header, *lines = aligned(rows).splitlines()
    # refusals are appended after the layout: a sentence would widen its column for all
    answers = zip(lines, frame["refusal"], strict=True)
    told = [f"{line}: {refusal}" if refusal else line for line, refusal in answers]
    styles = [_FAINT if refusal else "" for refusal in frame["refusal"]]
    return styled([header, *told], [_HEADER, *styles])


def styled(lines: Sequence[str], styles: Sequence[str]) -> Text:
    """Return lines as text, each in its style."""
    pairs = zip(lines, styles, strict=True)
    return Text("\n").join([Text(line, style) for line, style in pairs])


def table(rows: Sequence[Sequence[str]]) -> Text:
    """Return rows as aligned text under a header, which is the first of them."""
    lines = aligned(rows).splitlines()
    return styled(lines, [_HEADER, *[""] * (len(lines) - 1)])


def _header(first: str, names: Sequence[str]) -> list[str]:
    costs = [word for name in names for word in [name, *[""] * METRICS[name].has_share]]
    quality = [metric.exponential or metric.name for metric in front_metrics()]
    return [first, "plan", *costs, "KL search", "KL fresh", "KL held-out", *quality]


def _shown_costs(frame: "pd.DataFrame") -> list[str]:
    """Return the costs to show: those that count zeros only where some weights are zero."""
    # a budget that no plan meets has no costs at all
    plans = frame[frame["params"].notna()] if "params" in frame else frame
    same = "nonzero" in frame and bool((plans["nonzero"] == plans["params"]).all())
    hidden = metric_names("sparse") if same else ()
    return [name for name in metric_names(*COST_KINDS) if name in frame and name not in hidden]


def _cells(row: "pd.Series", names: Sequence[str]) -> list[str]:
    costs = []
    for name in names:
        costs.append(METRICS[name].amount(row[name]))
        costs += [f"{row[f'{name}_x']:.3f}x"] if METRICS[name].has_share else []
    # a plan that was not re-scored has none of these, or no number
    quality = [
        with_error(row[name], row[f"{name}_se"]) if _has(row, name) else ""
        for name in ("kl", "fresh_kl", "holdout_kl")
    ]
    for metric in front_metrics():
        name = f"holdout_{metric.name}"
        quality.append(metric.amount(row[name]) if _has(row, name) else "")
    return [row["plan_id"], *costs, *quality]


def _has(row: "pd.Series", name: str) -> bool:
    return not math.isnan(row.get(name, math.nan))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned text: the first two columns to the left, the others to the right.

    >>> print(aligned([["", "plan", "KL"], ["→", "a1", "0.25"]]))
       plan    KL
    →  a1    0.25
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def layers_table(frame: "pd.DataFrame") -> Text:
    """Return what a plan keeps of each layer as a table.

    Args:
        frame: As `RunPlan.layers` returns it.
    """
    rows = [["layer", "component", "kept", "of", "", "share", "options"]]
    for _, row in frame.iterrows():
        counts = [str(row["layer"]), row["component"], str(row["kept"]), str(row["of"])]
        rows.append([*counts, row["unit"], f"{row['share']:.1%}", row["options"]])
    return table(rows)


def equal_cost_table(found: Sequence[EqualCost], cost_names: Sequence[str]) -> Text:
    """Return how two runs' KL compares at the same costs as a table.

    Args:
        found: As `at_equal_cost` returns it.
        cost_names: Of both runs.
    """
    rows = [["plan", "against", *cost_names, "KL", "against", "more by"]]
    for each in found:
        kls = [plan.holdout["kl"] for plan in (each.ours, each.theirs)]
        rows.append(
            [
                each.ours.plan_id,
                each.theirs.plan_id,
                *(f"{share:.3f}x" for share in each.shares),
                *map(str, (*kls, each.excess)),
            ]
        )
    return table(rows)


def stability_table(stability: Stability) -> Text:
    """Return the ranks of a front's plans on two draws of the text as a table."""
    rows = [["", "plan", "KL search", "KL fresh", "rank", "may be", "fresh rank"]]
    for _, plan in stability.ranks.iterrows():
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
    return table(rows)
