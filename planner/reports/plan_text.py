"""One plan of a run as text for a terminal: costs, scores, and a picture of its layers."""

from collections.abc import Sequence
from pathlib import PurePath

from rich.text import Text

from planner.figures.figure_axes import SPLITS
from planner.reports.plan_facts import cost_rows, score_rows
from planner.reports.tables import aligned_lines, layers_table, one_line, table
from planner.results.layer_strips import DROPPED, STOOD_IN, Strip, layer_strips
from planner.results.recoveries import recovery_sentences
from planner.results.run_plan import RunPlan
from planner.runs.records import BASELINE_ROUND, Evaluation
from search_spaces.errors import RunError, in_words

_BARS = "▁▂▃▄▅▆▇█"
"""From little that is kept to all; readable without colour."""
_SHADES = ("red", "dark_orange", "yellow", "green_yellow", "green")
"""The same on a terminal with colours."""
_NOTHING = "·"
"""Of a layer in which there is nothing to choose, or nothing is changed."""
_TICK = 5
"""Layers between two numbers over the strips."""


def plan_text(plan: RunPlan, roles: Sequence[str] = (), *, width: int | None = None) -> Text:
    """Return all that a run says of a plan: without its layers, if the folder does not say them.

    Args:
        plan: The plan.
        roles: What else it is, such as the knee of the front.
        width: Of the terminal.
    """
    parts = [
        Text(f"plan {plan.plan_id}", "bold") + Text(f"  {_facts(plan.evaluation, roles)}"),
        Text(f"of {PurePath(plan.run.settings.model).name} in {plan.run.folder}"),
        *map(Text, recovery_sentences(plan.evaluation)),
        Text(),
        _costs_table(plan, width),
        Text(),
        _scores_table(plan, width),
        Text(),
        _layers_text(plan, width),
    ]
    return Text("\n").join(parts)


def _facts(found: Evaluation, roles: Sequence[str]) -> str:
    """Return where a plan comes from, and what became of it."""
    is_baseline = found.round == BASELINE_ROUND
    origin = "scored for comparison" if is_baseline else f"proposed in round {found.round + 1}"
    windows = f"scored on {found.score.windows} windows"
    failed = f"failed: {found.score.failure}" if found.score.failure else ""
    return " · ".join(filter(None, [*roles, origin, windows, failed]))


def _costs_table(plan: RunPlan, width: int | None) -> Text:
    rows = [
        [row.metric.name, row.metric.label, row.amount, f"{row.share:.3f}x"]
        for row in cost_rows(plan)
    ]
    return table([["cost", "", "", "of the dense model"], *rows], width=width)


def _scores_table(plan: RunPlan, width: int | None) -> Text:
    """Return scores, a row a metric and a column a text that any was measured on."""
    texts = [text for text in SPLITS if plan.quality[text]]
    rows = [["score", "", *(f"on {SPLITS[text]}" for text in texts)]]
    for row in score_rows(plan):
        shown, metric = row.metric.exponential, row.metric
        names = [shown, ""] if shown else [metric.name, metric.label]
        rows.append([*names, *(row.cells.get(text, "") for text in texts)])
    if width is not None and max(map(len, aligned_lines(rows))) > width:
        rows = [[name, "", *cells] for name, _, *cells in rows]  # side by side, and in few words
    return table(rows, width=width)


def _layers_text(plan: RunPlan, width: int | None) -> Text:
    """Return what is kept of each layer, or why the folder does not say."""
    try:
        layers = plan.layers()
    except RunError as error:  # of a file that is lost, only the layers are missing here
        told = f"its layers are not known: {in_words(error)}".splitlines()
        return Text("\n").join([Text(one_line(words), "yellow") for words in told])
    parts = [strips_text(layer_strips(layers)), Text(), layers_table(layers, width=width)]
    return Text("\n").join(parts)


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
    if any(cell.text == STOOD_IN for strip in strips for cell in strip.cells):
        legend += f", {STOOD_IN} dropped, and what is before it stands in"
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
        return (STOOD_IN, "bold yellow") if text == STOOD_IN else (DROPPED, "bold red")
    shade = _SHADES[min(len(_SHADES) - 1, int(share * len(_SHADES)))]
    return _BARS[min(len(_BARS) - 1, int(share * len(_BARS)))], shade
