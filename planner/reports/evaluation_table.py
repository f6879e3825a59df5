"""An evaluation as text for a terminal: figures side by side, verdicts, and what these mean."""

import math
import textwrap
from collections.abc import Mapping

from planner.evaluate.evaluation_results import (
    Difference,
    Evaluation,
    PerplexityResult,
    TaskResult,
    Value,
)
from planner.reports.tables import aligned

_WIDTH = 99
_SHARES = (
    "Each verdict is of one task by itself, at 5 %, two-sided. `lost` and `won` count the samples "
    "that only the dense or only the pruned model has right, which McNemar's exact test compares; "
    "a metric that is not right or wrong is compared by a paired t test. A loss as large as "
    "`detectable`, or larger, would have been shown by so many samples four times out of five."
)


def evaluation_text(evaluation: Evaluation) -> str:
    """Return what was found, with a paragraph on how to read it."""
    parts = []
    if evaluation.perplexity is not None:
        parts.append(_perplexity_text(evaluation.perplexity))
    if evaluation.tasks:
        parts.append(_tasks_table(evaluation.tasks))
        if evaluation.dense is not None:
            parts.append(_filled(_SHARES + _taken_together(evaluation.tasks)))
    return "\n\n".join(parts)


def _perplexity_text(found: PerplexityResult) -> str:
    header = f"perplexity on {found.windows} windows of {found.window_tokens} tokens: {found.text}"
    if found.dense is None or found.difference is None:
        return f"{header}\n{_value(found.pruned, 2)}"
    compared = found.difference
    ratio = math.exp(-compared.gain)
    rows = [
        ["", "verdict", "dense", "pruned", "ratio", "p", "detectable"],
        [
            "perplexity",
            compared.verdict,
            _value(found.dense, 2),
            _value(found.pruned, 2),
            _value(Value(value=ratio, standard_error=ratio * compared.standard_error), 3),
            _p_value(compared.p_value),
            _ratio(compared.detectable_loss),
        ],
    ]
    return f"{header}\n{aligned(rows)}"


def _ratio(nats: float | None) -> str:
    return "none" if nats is None else f"{math.exp(nats):.3f}"


def _tasks_table(tasks: Mapping[str, TaskResult]) -> str:
    if all(task.dense is None for task in tasks.values()):
        rows = [["task", "metric", "samples", "value"]]
        rows += [[n, t.metric, str(t.samples), _value(t.pruned, 3)] for n, t in tasks.items()]
        return aligned(rows)
    several = sum(task.difference is not None for task in tasks.values()) > 1
    rows = [["task", "verdict", "metric", "samples", "dense", "pruned", "gain", "p"]]
    rows[0] += ["p of all"] * several + ["lost", "won", "detectable"]
    for name, task in tasks.items():
        rows.append(
            [
                name,
                task.difference.verdict if task.difference else "no verdict",
                task.metric,
                str(task.samples),
                _value(task.dense, 3),
                _value(task.pruned, 3),
                *_compared(task.difference, several=several),
            ]
        )
    return aligned(rows)


def _compared(found: Difference | None, *, several: bool) -> list[str]:
    """Return the cells of a difference; blank ones if there is none."""
    if found is None:
        return [""] * (5 + several)
    gain = Value(value=found.gain, standard_error=found.standard_error)
    return [
        _value(gain, 3, sign="+"),
        _p_value(found.p_value),
        *([_p_value(found.holm_p_value)] if several and found.holm_p_value is not None else []),
        *("" if count is None else str(count) for count in (found.lost, found.won)),
        "none" if found.detectable_loss is None else f"{found.detectable_loss:.3f}",
    ]


def _taken_together(tasks: Mapping[str, TaskResult]) -> str:
    """Return what holds of several tasks at once; nothing for one."""
    found = {name: one.difference for name, one in tasks.items() if one.difference}
    if len(found) < 2:
        return ""
    worse = [name for name, one in found.items() if one.verdict_of_all == "worse"]
    said = f"it is worse in {', '.join(worse)}" if worse else "it is not shown to be worse in any"
    return (
        f" Of {len(found)} equal models one in twenty seems to differ; with all tasks tested "
        f"together, by Holm's `p of all`, {said}."
    )


def _value(found: Value | None, digits: int, sign: str = "") -> str:
    if found is None:
        return "–"
    error = "" if found.standard_error is None else f" ± {found.standard_error:.{digits}f}"
    return f"{found.value:{sign}.{digits}f}{error}"


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _filled(text: str) -> str:
    return textwrap.fill(text, _WIDTH)
