"""Pictures of a front."""

from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.metric import METRICS
from planner.reports.sentences import BASELINES
from planner.results.front import fully_scored
from planner.run import Run
from search_spaces.atomic_files import replacing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_SERIES = (
    ("kl", "search text", "oC0-"),
    ("fresh_kl", "fresh text", "^C2--"),
    ("holdout_kl", "held-out text", "sC1:"),
)
"""Columns of a front that are drawn, each with its label and style."""


def draw_front(run: Run, path: Path) -> None:
    """Draw KL against the first cost: all scored plans, and the front with its errors.

    Args:
        run: The run.
        path: PNG file to write.
    """
    # Figure and not pyplot: no global state, no window, no configuration
    from matplotlib.figure import Figure  # noqa: PLC0415  (a second, and only pictures need it)

    frame, cost = run.front(), run.cost_names[0]
    dense = run.dense[cost]
    scored = fully_scored(run.landed())
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(
        [e.costs[cost] / dense for e in scored],
        [e.quality["kl"].value for e in scored],
        s=10, color="0.75", label=f"all {len(scored)} plans scored in full",
    )  # fmt: skip
    for column, label, style in _SERIES:
        if column in frame:
            points = frame[[f"{cost}_x", column, f"{column}_se"]]
            draw_series(axes, points, f"front, {label} ± 2 s.e.", style)
    for (name, baseline), marker in zip(run.baselines().items(), "x+", strict=False):
        axes.plot(
            [baseline.costs[cost] / dense], [baseline.holdout["kl"].value],
            marker, color="C3", markersize=9, label=f"{BASELINES[name]}, held-out",
        )  # fmt: skip
    axes.set_xlabel(f"{METRICS[cost].label}, as a share of the dense model's")
    axes.set_ylabel("KL to the dense model (nats a token)")
    highest = max(frame[column].max() for column, _, _ in _SERIES if column in frame)
    axes.set_ylim(bottom=0, top=1.15 * max(highest, 0.01))
    draw_title(axes, f"{Path(run.settings.model).name}: {cost} against quality")
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def draw_title(axes: "Axes", text: str) -> None:
    """Write a title that holds a name: its signs are no formula, and the font may lack some."""
    from matplotlib.font_manager import findfont, get_font  # noqa: PLC0415  (as above)

    font = get_font(findfont(axes.title.get_fontproperties()))
    shaped = (c if c.isprintable() and font.get_char_index(ord(c)) else "?" for c in text)
    axes.set_title("".join(shaped), parse_math=False)


def draw_series(axes: "Axes", points: "pd.DataFrame", label: str, style: str) -> None:
    """Draw the three columns cost, value and standard error as a line in a band."""
    cost, value, error = (points[column] for column in points.columns)
    (line,) = axes.plot(cost, value, style, markersize=4, label=label)
    axes.fill_between(
        cost, value - 2 * error, value + 2 * error, color=line.get_color(), alpha=0.15, linewidth=0
    )
