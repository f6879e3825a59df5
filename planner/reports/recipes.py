"""What a comparison shows to people: a table, sentences and a picture."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from planner.recipes.recipe_comparison import Comparison, Found
from planner.reports.plots import draw_series
from planner.reports.sentences import with_error
from planner.reports.tables import aligned
from planner.settings.budget import Budget, format_amount
from search_spaces.atomic_files import replacing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_SPENT = ("plans", "tokens", "seconds")
_MARKERS = "osv^D<>Phd"


def comparison_table(found: Comparison) -> str:
    """Lay out for a terminal the best plan of each recipe within the budget, best first."""
    costs = Budget.parse(found.budget).cost_names
    quality = ["KL searched", "KL hold-out", "perplexity"]
    titles = [title for cost in costs for title in (cost, "")]
    rows = [["", "recipe", "plan", *titles, *quality, *_SPENT]]
    rows += [_cells(row, costs) for _, row in found.table.iterrows()]
    rows[1][0] = "→"
    return aligned(rows)


def _cells(row: "pd.Series", costs: tuple[str, ...]) -> list[str]:
    spent = [f"{row[name]:,.0f}" for name in _SPENT]
    if not isinstance(row.get("plan_id"), str):
        return ["", row["recipe"], "none", *["" for _ in range(2 * len(costs) + 3)], *spent]
    shown = [
        cell
        for cost in costs
        for cell in (format_amount(cost, row[cost]), f"{row[f'{cost}_x']:.3f}x")
    ]
    return [
        "",
        row["recipe"],
        row["plan_id"],
        *shown,
        with_error(row["kl"], row["kl_se"]),
        with_error(row["holdout_kl"], row["holdout_kl_se"]),
        f"{row['holdout_perplexity']:.2f}",
        *spent,
    ]


def comparison_sentences(found: Comparison) -> str:
    """Say which recipe is best, and which ones it beats beyond the error."""
    best = found.best
    if best.plan is None:
        return f"no recipe came to a plan within {found.budget}: give them more to spend"
    kl, cost = best.plan.holdout["kl"], Budget.parse(found.budget).cost_names[0]
    lines = [
        f"within {found.budget} {best.recipe} is best on hold-out text: KL "
        f"{with_error(kl.value, kl.standard_error)} at {cost} "
        f"{format_amount(cost, best.plan.costs[cost])}"
    ]
    others = found.table.iloc[1:]
    said = {
        "better": "it beats beyond the error",
        "perhaps": "it is better, but within the error, than",
        "no better": "it is no better than",
        "same plan": "it found the same plan as",
    }
    for verdict, words in said.items():
        rows = others[others["verdict"] == verdict] if "verdict" in others else others[:0]
        named = [
            row["recipe"]
            if verdict == "same plan"
            else f"{row['recipe']} (by {with_error(row['behind'], row['behind_se'])})"
            for _, row in rows.iterrows()
        ]
        if named:
            lines.append(f"{words}: {', '.join(named)}")
    without = [each.recipe for each in found.found if each.plan is None]
    if without:
        lines.append(f"no plan within the budget: {', '.join(without)}")
    lines.append(f"errors are those of the differences on the same {len(kl.by_window)} windows")
    return "\n".join(lines)


def draw_comparison(found: Comparison, path: Path) -> None:
    """Draw hold-out KL against the first cost: each recipe's front, its best plan, the budget.

    Args:
        found: The comparison.
        path: Of the picture, PNG.
    """
    # Figure and not pyplot: no global state, no window, no configuration
    from matplotlib.figure import Figure  # noqa: PLC0415  (a second, and only pictures need it)

    budget = Budget.parse(found.budget)
    cost = budget.cost_names[0]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for position, each in enumerate(found.found):
        _draw_found(axes, each, cost, f"C{position % 10}", _MARKERS[position % 10])
    limit = budget.share(cost, found.best.run.dense)
    if limit is not None:
        axes.axvline(limit, color="0.3", linewidth=1, linestyle="--", label=str(found.budget))
    highest = [each.kl for each in found.found if math.isfinite(each.kl)]
    # fronts go on below the budget, where some plans are ruined
    axes.set_ylim(bottom=0, top=1.4 * max([*highest, 0.01]))
    axes.set_xlabel(f"{cost}, as a share of the dense model's")
    axes.set_ylabel("KL to the dense model on hold-out text (nats a token)")
    axes.set_title(f"{Path(found.best.run.settings.model).name}: recipes under {found.budget}")
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as whole:
        figure.savefig(whole, dpi=120)


def _draw_found(axes: "Axes", found: Found, cost: str, color: str, marker: str) -> None:
    frame = found.run.front()
    points = frame[[f"{cost}_x", "holdout_kl", "holdout_kl_se"]]
    draw_series(axes, points, f"{found.recipe} ± 2 s.e.", f"{marker}{color}-")
    if found.plan is not None:
        share = found.plan.costs[cost] / found.run.dense[cost]
        axes.plot([share], [found.kl], "*", color=color, markersize=14, markeredgecolor="black")
