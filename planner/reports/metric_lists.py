"""Lists of metrics that a budget may limit, in documents: written here, between two markers."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluators.metric import METRICS, Metric, limitable_names

_MARKED = re.compile(r"(<!--metrics (line|table)-->\n).*?(<!--/metrics-->)", re.DOTALL)


def with_lists(text: str) -> str:
    """Return a document with the list between each pair of markers as it should be."""
    metrics = [METRICS[name] for name in limitable_names()]
    lists = {"line": _line(metrics), "table": _table(metrics)}
    return _MARKED.sub(lambda marked: f"{marked[1]}{lists[marked[2]]}\n{marked[3]}", text)


def _line(metrics: Sequence[Metric]) -> str:
    return f"{', '.join(f'`{metric.name}`' for metric in metrics)}."


def _table(metrics: Sequence[Metric]) -> str:
    rows = ["| name | what it is | in | counted | of |", "|---|---|---|---|---|"]
    rows += [
        f"| `{metric.name}` | {metric.label} | {metric.unit} | {metric.source} | {_of(metric)} |"
        for metric in metrics
    ]
    return "\n".join(rows)


def _of(metric: Metric) -> str:
    whose = {"experts": "models with experts", "measured": "runs that measure it"}
    bound = "; at least" if metric.is_maximised else ""
    return f"{whose.get(metric.kind, 'all')}{bound}"


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(with_lists(path.read_text(encoding="utf-8")), encoding="utf-8")
