"""What every benchmark reports: a table on the screen, Markdown, JSON, a last line, a status."""

import ast
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import torch

from planner.runs.environment import describe_environment
from search_spaces.atomic_files import atomic_write_text

RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"

INDEX_MARK = "<!-- index -->"
"""Stands before and after the table of all benchmarks."""

Row = Mapping[str, str | float]
"""One line of the table, by column."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A figure and the limit that it must keep."""

    figure: str
    """What was measured."""
    value: float
    limit: float
    at_least: bool
    """Whether the limit is the lowest value allowed, and not the highest."""
    percent: bool = False
    """Whether the value is a share to be shown in percent."""

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        value, limit = (
            f"{100 * number:.3g} %" if self.percent else f"{number:.3g}"
            for number in (self.value, self.limit)
        )
        return f"{self.figure} {value} (goal {'≥' if self.at_least else '≤'} {limit})"


def is_quick() -> bool:
    """Return whether the coarse figure was asked for, with ``QUICK=1``."""
    return os.environ.get("QUICK", "") not in ("", "0")


def finish(name: str, rows: Sequence[Row], goals: Sequence[Goal], notes: str, *, seed: int) -> int:
    """Print and write a benchmark's result.

    Args:
        name: As in ``make bench-NAME``.
        rows: Of the table; where the columns change, another table begins.
        goals: What must hold.
        notes: Markdown that describes the figures.
        seed: That everything random came from.

    Returns:
        Exit status: 0 where every goal holds.
    """
    tables = [list(same) for _, same in groupby(rows, key=list)]
    table = "\n\n".join(map(_table, tables))
    last = f"{name}: {'; '.join(map(str, goals))}"
    environment = _environment(name, seed)
    surroundings = "\n".join(f"- {key}: {value}" for key, value in environment.items())
    page = f"# bench-{name}\n\n{notes.strip()}\n\n{table}\n\n{last}\n\n{surroundings}\n"
    measured = {
        "benchmark": name,
        "rows": list(rows),
        "goals": [asdict(goal) | {"holds": goal.holds} for goal in goals],
        "environment": environment,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    atomic_write_text(RESULTS / f"{name}.md", page)
    atomic_write_text(
        RESULTS / f"{name}.json", json.dumps(measured, indent=1, ensure_ascii=False) + "\n"
    )
    refresh_index()
    print(table, last, sep="\n")
    return 0 if all(goal.holds for goal in goals) else 1


def refresh_index() -> None:
    """Update the table of all benchmarks in the results' README, where there is one."""
    page = RESULTS / "README.md"
    if page.is_file():
        before, _, after = page.read_text(encoding="utf-8").split(INDEX_MARK)
        atomic_write_text(page, INDEX_MARK.join([before, f"\n{index()}\n", after]))


def index() -> str:
    """Return a table of what each benchmark measures, and whether its written result holds."""
    rows: list[Row] = []
    for path in sorted(RESULTS.glob("*.json")):
        measured = json.loads(path.read_text(encoding="utf-8"))
        name = measured["benchmark"]
        source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        described = ast.get_docstring(ast.parse(source)) or ""
        goals = [
            Goal(**{key: value for key, value in goal.items() if key != "holds"})
            for goal in measured["goals"]
        ]
        quick = "QUICK" in measured["environment"]["command"]
        rows.append(
            {
                "benchmark": f"[{name}]({name}.md)",
                "measures": described.splitlines()[0].rstrip("."),
                "figures and goals": "; ".join(map(str, goals)),
                "goals hold": "yes" if all(goal.holds for goal in goals) else "**no**",
                "command": f"`{'QUICK=1 ' if quick else ''}make bench-{name}`",
            }
        )
    return _table(rows)


def _table(rows: Sequence[Row]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[_shown(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def _shown(value: str | float) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _environment(name: str, seed: int) -> dict[str, object]:
    described = describe_environment(device="cpu", seed=seed)
    packages = described.pop("packages")
    assert isinstance(packages, dict)
    return {
        "command": f"{'QUICK=1 ' if is_quick() else ''}python -m benchmarks.{name}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **described,
        "threads": torch.get_num_threads(),
        "torch": packages["torch"],
        "transformers": packages["transformers"],
    }
