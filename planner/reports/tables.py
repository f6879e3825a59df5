"""A run's front, answers and stability as tables for a terminal."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from evaluators.metric import COST_KINDS, METRICS, front_metrics, metric_names
from planner.reports.sentences import with_error
from planner.results.equal_cost import EqualCost
from planner.results.stability import Stability
from planner.runs.space_description import KEPT_WHOLE

if TYPE_CHECKING:
    import pandas as pd


_HEADER, _MARKED, _KNEE, _FAINT = "bold", "bold green", "cyan", "dim"
"""Styles of lines on a terminal; none tells what its line does not say."""


def front_table(
    frame: "pd.DataFrame",
    *,
    marked: str | None = None,
    knee: str | None = None,
    width: int | None = None,
) -> Text:
    """Return a front as a table.

    KL has three columns: on the search text, which is optimistic; on a fresh draw of the same
    text; and on held-out text, which the other metrics of quality are shown of.

    Args:
        frame: As `Run.front` returns it.
        marked: Id of a plan to point at.
        knee: Id of the front's knee.
        width: Of the terminal.
    """
    marks = {"→": marked, "knee": knee}
    marked_rows = [
        [mark for mark, plan_id in marks.items() if row_id == plan_id]
        for row_id in frame["plan_id"]
    ]
    rows = plan_rows(frame, "", [" ".join(each) for each in marked_rows])
    styles = [{"→": _MARKED, "knee": _KNEE}[each[0]] if each else "" for each in marked_rows]
    return table(rows, styles=styles, width=width)


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


def answers_table(frame: "pd.DataFrame", *, width: int | None = None) -> Text:
    """Return as a table which plan answers each budget, or why none does.

    Args:
        frame: As `Run.answers` returns it.
        width: Of the terminal.
    """
    cost_names = _shown_costs(frame)
    rows = [_header("budget", cost_names)]
    for _, row in frame.iterrows():
        empty = ["none"] + [""] * (len(rows[0]) - 2)
        rows.append([row["budget"], *(empty if row["refusal"] else _cells(row, cost_names))])
    refusals = list(frame["refusal"])
    return table(
        rows,
        styles=[_FAINT if refusal else "" for refusal in refusals],
        tails=[f": {one_line(refusal)}" if refusal else "" for refusal in refusals],
        width=width,
    )


def table(
    rows: Sequence[Sequence[str]],
    *,
    styles: Sequence[str] = (),
    tails: Sequence[str] = (),
    width: int | None = None,
) -> Text:
    """Return rows as aligned text.

    Args:
        rows: The first of them is the header.
        styles: Of the other rows; by default they are plain.
        tails: What is told behind each of the other rows, such as a sentence that would widen its
            column for all.
        width: Of the terminal: columns that do not fit follow below, each time behind the first
            two. By default there is no end to a line.
    """
    styles = [_HEADER, *(styles or [""] * (len(rows) - 1))]
    blocks = [aligned_lines(block) for block in _folded(rows, width)]
    if tails:
        blocks[0] = [line + tail for line, tail in zip(blocks[0], ["", *tails], strict=True)]
    return Text("\n\n").join([_styled(lines, styles) for lines in blocks])


def _styled(lines: Sequence[str], styles: Sequence[str]) -> Text:
    """Return lines as text, each in its style."""
    pairs = zip(lines, styles, strict=True)
    return Text("\n").join([Text(line, style) for line, style in pairs])


def _folded(rows: Sequence[Sequence[str]], width: int | None) -> list[Sequence[Sequence[str]]]:
    """Return the columns of a table in as many tables as are needed to fit a width.

    What has no title of its own, such as a cost's share, stays with the column before it.
    """
    if width is None or max(map(len, aligned_lines(rows))) <= width:
        return [rows]
    first = [0, 1]
    groups: list[list[int]] = []
    for column, title in enumerate(rows[0][len(first) :], len(first)):
        if title or not groups:
            groups.append([])
        groups[-1].append(column)
    blocks = [[*first, *groups[0]]] if groups else [first]
    for group in groups[1:]:
        longer = _only(rows, [*blocks[-1], *group])
        if max(map(len, aligned_lines(longer))) <= width:
            blocks[-1] += group
        else:
            blocks.append([*first, *group])
    return [_only(rows, block) for block in blocks]


def _only(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> list[list[str]]:
    return [[row[column] for column in columns] for row in rows]


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
    return "\n".join(aligned_lines(rows))


def aligned_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return what `aligned` does, a line a row, whatever signs are in it."""
    shown = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = []
    for row in shown:
        cells = [
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def one_line(text: str) -> str:
    r"""Return text whose signs that have no shape, ends of lines too, are written as Python does.

    >>> one_line("a\nb")
    'a\\nb'
    """
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def layers_table(frame: "pd.DataFrame", *, width: int | None = None) -> Text:
    """Return what a plan keeps of each layer as a table.

    Args:
        frame: As `RunPlan.layers` returns it.
        width: Of the terminal.
    """
    rows = [["layer", "component", "kept", "of", "", "share", "options"]]
    for _, row in frame.iterrows():
        layer = "–" if row["unit"] == KEPT_WHOLE else str(row["layer"])
        counts = [layer, row["component"], str(row["kept"]), str(row["of"])]
        rows.append([*counts, row["unit"], f"{row['share']:.1%}", row["options"]])
    return table(rows, width=width)


def equal_cost_table(
    found: Sequence[EqualCost], cost_names: Sequence[str], *, width: int | None = None
) -> Text:
    """Return how two runs' KL compares at the same costs as a table.

    Args:
        found: As `at_equal_cost` returns it.
        cost_names: Of both runs.
        width: Of the terminal.
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
    return table(rows, width=width)


def stability_table(stability: Stability, *, width: int | None = None) -> Text:
    """Return the ranks of a front's plans on two draws of the text as a table.

    Args:
        stability: As `Run.stability` returns it.
        width: Of the terminal.
    """
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
    return table(rows, width=width)
