"""One plan of a run as text for a terminal: costs, scores, and a picture of its layers."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from rich.text import Text

from evaluators.metric import METRICS, exponential
from planner.reports.tables import layers_table, table
from planner.results.layer_strips import DROPPED, Strip, layer_strips
from planner.results.run_plan import RunPlan
from planner.runs.records import BASELINE_ROUND, Evaluation

if TYPE_CHECKING:
    import pandas as pd

_BARS = "▁▂▃▄▅▆▇█"
"""From little that is kept to all; readable without colour."""
_SHADES = ("red", "dark_orange", "yellow", "green_yellow", "green")
"""The same on a terminal with colours."""
_NOTHING = "·"
"""Of a layer in which there is nothing to choose, or nothing is changed."""
_TEXTS = {"search": "search", "fresh": "fresh", "holdout": "held-out"}
_TICK = 5
"""Layers between two numbers over the strips."""


def plan_text(plan: RunPlan, marks: Sequence[str] = ()) -> Text:
    """Return a plan in whole.

    Args:
        plan: The plan.
        marks: What else it is, such as the knee of the front.

    Raises:
        RunError: If the folder does not say what it chooses among.
    """
    layers = plan.layers()
    parts = [
        Text(f"plan {plan.plan_id}", "bold") + Text(f"  {_facts(plan.evaluation, marks)}"),
        Text(f"of {PurePath(plan.run.settings.model).name} in {plan.run.folder}"),
        Text(),
        _costs_table(plan),
        Text(),
        _scores_table(plan.scores()),
        Text(),
        strips_text(layer_strips(layers)),
        Text(),
        layers_table(layers),
    ]
    return Text("\n").join(parts)


def _facts(found: Evaluation, marks: Sequence[str]) -> str:
    """Return where a plan comes from, and what became of it."""
    is_baseline = found.round == BASELINE_ROUND
    origin = "scored for comparison" if is_baseline else f"proposed in round {found.round + 1}"
    windows = f"scored on {found.score.windows} windows"
    failed = f"failed: {found.score.failure}" if found.score.failure else ""
    return " · ".join(filter(None, [*marks, origin, windows, failed]))


def _costs_table(plan: RunPlan) -> Text:
    rows = [["cost", "", "", "of the dense model"]]
    for _, cost in plan.costs().iterrows():
        metric, share = METRICS[cost["metric"]], f"{cost['share']:.3f}x"
        rows.append([metric.name, metric.label, metric.amount(cost["value"]), share])
    return table(rows)


def _scores_table(scores: "pd.DataFrame") -> Text:
    """Return scores, a row a metric and a column a text; figures in the metric's own unit."""
    by_text = {split: scores[scores["split"] == split] for split in _TEXTS}
    texts = [split for split, rows in by_text.items() if len(rows)]
    rows = [["score", "", *(f"on {_TEXTS[split]} text" for split in texts)]]
    for name in dict.fromkeys(scores["metric"]):
        found = {split: by_text[split].set_index("metric") for split in texts}
        cells = [
            f"{found[s].loc[name, 'value']:.3f} ± {found[s].loc[name, 'standard_error']:.3f}"
            if name in found[s].index
            else ""
            for s in texts
        ]
        rows.append([name, METRICS[name].label, *cells])
        if METRICS[name].exponential:
            values = (
                found[s].loc[name, "value"] if name in found[s].index else None for s in texts
            )
            told = ["" if value is None else f"{exponential(value):.2f}" for value in values]
            rows.append([METRICS[name].exponential, "", *told])
    return table(rows)


def strips_text(strips: Sequence[Strip]) -> Text:
    """Return strips one below the other, a bar a layer: the higher, the more is kept."""
    if not strips:
        return Text("nothing to choose in any layer")
    width = max(map(len, ["layer", *(strip.name for strip in strips)]))
    layers = [cell.layer for cell in strips[0].cells]
    scale = "".join(str(layer).ljust(_TICK) for layer in layers[::_TICK])
    lines = [Text(f"{'layer':{width}}  {scale}".rstrip(), "bold")]
    for strip in strips:
        line = Text(f"{strip.name:{width}}  ")
        letters = _letters(strip)
        for cell in strip.cells:
            line.append(*_bar(cell.share, cell.text, letters))
        if letters:
            line.append("  " + ", ".join(f"{sign} {text}" for text, sign in letters.items()))
        lines.append(line)
    legend = f"{_BARS[0]} little kept … {_BARS[-1]} all kept, {DROPPED} dropped"
    return Text("\n").join([*lines, Text(f"{'':{width}}  {legend}", "dim")])


def _letters(strip: Strip) -> dict[str, str]:
    """Return a letter for each text of a strip that is not counted, such as a number format."""
    if strip.is_counted:
        return {}
    texts = dict.fromkeys(cell.text for cell in strip.cells if cell.text)
    return {text: chr(ord("a") + index) for index, text in enumerate(texts)}


def _bar(share: float | None, text: str, letters: dict[str, str]) -> tuple[str, str]:
    """Return the sign of a cell, and its style."""
    if text in letters:
        return letters[text], "bold"
    if share is None:
        return _NOTHING, "dim"
    if share == 0:
        return DROPPED, "bold red"
    shade = _SHADES[min(len(_SHADES) - 1, int(share * len(_SHADES)))]
    return _BARS[min(len(_BARS) - 1, int(share * len(_BARS)))], shade
