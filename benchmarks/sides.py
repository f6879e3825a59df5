"""The same work by the code of an earlier checkout and by this one's, in turns, in one run.

``BEFORE=CHECKOUT make bench-NAME`` puts the figures of both sides and their ratio on the page.
Each side is a process that sees the packages of its checkout alone, and does what that checkout's
own benchmark asks of our engine.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from benchmarks.report import Row
from benchmarks.smollm2 import Text

HERE = Path(__file__).resolve().parents[1]
"""The checkout that this file is in."""
NOTES = """
**Before and after.** Where an earlier checkout was given, as `BEFORE=CHECKOUT make bench-NAME`, a
table has its figures beside this code's, and their ratio: the work of our engine alone, each side
in a process of its own, in turns; medians of the runs. Without one the page has no such table.
"""


def checkout_before() -> Path | None:
    """Return the earlier checkout that was given with ``BEFORE``, if one was."""
    given = os.environ.get("BEFORE", "")
    if not given:
        return None
    checkout = Path(given).resolve()
    if not (checkout / "benchmarks" / "smollm2.py").is_file():
        raise SystemExit(f"`BEFORE` must be a checkout of this project, got `{given}`")
    return checkout


def compared(name: str, text: Text, runs: int, *, fresh: bool = False) -> list[Row]:
    """Return a line for each side of a benchmark; none if no earlier checkout was given.

    Args:
        name: Of the benchmark.
        text: How much is scored.
        runs: Of each side.
        fresh: Whether each run is a process of its own.
    """
    before = checkout_before()
    if before is None:
        return []
    checkouts = {"before": before, "after": HERE}

    def start(checkout: Path) -> Side:
        return Side(checkout, name, text)

    return rows_of(alternating(checkouts, start, runs, fresh=fresh), checkouts)


class Side:
    """A process that does one benchmark's work by the code of a checkout, run after run."""

    def __init__(self, checkout: Path, name: str, text: Text) -> None:
        script = Path(__file__).with_name("side_work.py")
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script), name, str(text.windows), str(text.tokens)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self) -> Mapping[str, float]:
        """Do the work once and return its figures by name."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("run", file=self._process.stdin, flush=True)
        reply = self._process.stdout.readline()
        if not reply:
            raise RuntimeError("a side of the comparison ended; see above")
        figures: Mapping[str, float] = json.loads(reply)
        return figures


def alternating(
    checkouts: Mapping[str, Path], start: Callable[[Path], Side], runs: int, *, fresh: bool
) -> Mapping[str, Sequence[Mapping[str, float]]]:
    """Return what the runs of each side measured, the sides in turns."""
    found: dict[str, list[Mapping[str, float]]] = {side: [] for side in checkouts}
    with ExitStack() as stack:
        held = {} if fresh else {s: stack.enter_context(start(c)) for s, c in checkouts.items()}
        for turn in range(runs):
            # whoever begins has the warmer or the cooler processor
            order = list(checkouts) if turn % 2 == 0 else list(checkouts)[::-1]
            for side in order:
                if fresh:
                    with start(checkouts[side]) as process:
                        found[side].append(process.run())
                else:
                    found[side].append(held[side].run())
    return found


def rows_of(
    found: Mapping[str, Sequence[Mapping[str, float]]], checkouts: Mapping[str, Path]
) -> list[Row]:
    """Return a line for each side: medians, all runs, and the ratio to the side before."""
    rows: list[Row] = []
    names = list(found["before"][0])
    medians = {
        side: {name: statistics.median(run[name] for run in runs) for name in names}
        for side, runs in found.items()
    }
    for side, runs in found.items():
        row: dict[str, str | float] = {"code": side, "commit": _commit(checkouts[side])}
        for name in names:
            row[name] = medians[side][name]
            row[f"{name}: runs"] = ", ".join(f"{run[name]:.3g}" for run in runs)
            row[f"{name}: ratio"] = medians[side][name] / medians["before"][name]
        rows.append(row)
    return rows


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short=10", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
