"""A comparison of recipes as a table, sentences and a picture."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.metric import METRICS
from planner.recipes.recipe_comparison import RecipeComparison, RecipeResult
from planner.reports.plots import draw_series, draw_title
from planner.reports.sentences import with_error
from planner.reports.tables import table
from search_spaces.atomic_files import replacing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_SPENT = ("plans", "tokens", "seconds")
_MARKERS = "osv^D<>Phd"


def comparison_table(comparison: RecipeComparison, *, width: int | None = None) -> str:
    """Return the best plan of each recipe within the budget as a table, best first.

    Args:
        comparison: The comparison.
        width: Of the terminal.
    """
    costs = comparison.budget.cost_names
    quality = ["KL search", "KL held-out", "perplexity"]
    titles = [title for cost in costs for title in (cost, "")]
    rows = [["", "recipe", "plan", *titles, *quality, *_SPENT]]
    rows += [_cells(row, costs) for _, row in comparison.table.iterrows()]
    rows[1][0] = "→"
    return table(rows, width=width).plain


def _cells(row: "pd.Series", costs: tuple[str, ...]) -> list[str]:
    spent = [f"{row[name]:,.0f}" for name in _SPENT]
    if not isinstance(row.get("plan_id"), str):
        return ["", row["recipe"], "none", *["" for _ in range(2 * len(costs) + 3)], *spent]
    amounts = [
        cell
        for cost in costs
        for cell in (METRICS[cost].amount(row[cost]), f"{row[f'{cost}_x']:.3f}x")
    ]
    return [
        "",
        row["recipe"],
        row["plan_id"],
        *amounts,
        with_error(row["kl"], row["kl_se"]),
        with_error(row["holdout_kl"], row["holdout_kl_se"]),
        f"{row['holdout_perplexity']:.2f}",
        *spent,
    ]


def comparison_sentences(comparison: RecipeComparison) -> str:
    """Return which recipe is best, and than which others it is significantly better."""
    best = comparison.best
    if best.plan is None:
        return f"no recipe came to a plan within {comparison.budget}: give them more to spend"
    kl, cost = best.plan.holdout["kl"], comparison.budget.cost_names[0]
    lines = [
        f"within {comparison.budget} {best.recipe} is best on held-out text: KL "
        f"{with_error(kl.value, kl.standard_error)} at {cost} "
        f"{METRICS[cost].amount(best.plan.costs[cost])}"
    ]
    others = comparison.table.iloc[1:]
    wordings = {
        "better": "it is significantly better (2.5 %) than",
        "perhaps": "it is better, but not significantly, than",
        "no better": "it is no better than",
        "same plan": "it found the same plan as",
    }
    for verdict, wording in wordings.items():
        rows = others[others["verdict"] == verdict] if "verdict" in others else others[:0]
        recipes = [
            row["recipe"]
            if verdict == "same plan"
            else f"{row['recipe']} (by {with_error(row['behind'], row['behind_se'])})"
            for _, row in rows.iterrows()
        ]
        if recipes:
            lines.append(f"{wording}: {', '.join(recipes)}")
    without = [result.recipe for result in comparison.results if result.plan is None]
    if without:
        lines.append(f"no plan within the budget: {', '.join(without)}")
    lines.append(f"errors are those of the differences on the same {len(kl.by_window)} windows")
    return "\n".join(lines)


def draw_comparison(comparison: RecipeComparison, path: Path) -> None:
    """Draw held-out KL against the first cost: each recipe's front, its best plan, the budget.

    Args:
        comparison: The comparison.
        path: PNG file to write.
    """
    # Figure and not pyplot: no global state, no window, no configuration
    from matplotlib.figure import Figure  # noqa: PLC0415  (a second, and only pictures need it)

    cost = comparison.budget.cost_names[0]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for position, result in enumerate(comparison.results):
        _draw_result(axes, result, cost, f"C{position % 10}", _MARKERS[position % 10])
    limit = comparison.budget.share(cost, comparison.best.run.dense)
    if limit is not None:
        axes.axvline(limit, color="0.3", linewidth=1, linestyle="--", label=str(comparison.budget))
    finite_kls = [result.kl for result in comparison.results if math.isfinite(result.kl)]
    # fronts go on below the budget, to plans of very high KL that would flatten the rest
    axes.set_ylim(bottom=0, top=1.4 * max([*finite_kls, 0.01]))
    axes.set_xlabel(f"{METRICS[cost].label}, as a share of the dense model's")
    axes.set_ylabel("KL to the dense model on held-out text (nats a token)")
    model = Path(comparison.best.run.settings.model).name
    draw_title(axes, f"{model}: recipes under {comparison.budget}")
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _draw_result(axes: "Axes", result: RecipeResult, cost: str, color: str, marker: str) -> None:
    frame = result.run.front()
    points = frame[[f"{cost}_x", "holdout_kl", "holdout_kl_se"]]
    draw_series(axes, points, f"{result.recipe} ± 2 s.e.", f"{marker}{color}-")
    if result.plan is not None:
        share = result.plan.costs[cost] / result.run.dense[cost]
        axes.plot([share], [result.kl], "*", color=color, markersize=14, markeredgecolor="black")
