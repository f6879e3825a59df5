"""How many of 2,000 odd inputs the planner answers as it should: done, or refused in a sentence.

``make fuzz`` tries the code at hand; the figures of another checkout are put beside its own:

    python -m benchmarks.fuzz --checkout ../earlier --as before
    python -m benchmarks.fuzz --only 1234      # shows one input, what was said and what is wrong
"""

import argparse
import json
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.fuzzing import judge, model_inputs, option_inputs, run_inputs, text_inputs
from benchmarks.fuzzing.materials import Asked, Materials, Place
from benchmarks.fuzzing.workers import HERE, PROCESSOR_SECONDS, Outcome, Worker, try_all
from benchmarks.report import Goal, Row, finish, is_quick

COUNT = 2000
TOPICS: Mapping[str, tuple[int, Callable[[Place], Asked]]] = {
    "options": (9, option_inputs.options),
    "budgets": (5, option_inputs.budgets),
    "config files": (4, option_inputs.configs),
    "settings of runs": (3, run_inputs.settings),
    "plans": (4, run_inputs.plans),
    "databases": (4, run_inputs.database),
    "files of runs": (3, run_inputs.files),
    "models": (5, model_inputs.models),
    "texts": (3, text_inputs.texts),
}
"""What is odd, its inputs of each forty, and how one is made."""
_TURNS = [topic for topic, (share, _) in TOPICS.items() for _ in range(share)]
SIDES = ("before", "after")
NOTES = f"""
Seeded inputs: a command with odd options, budgets or files of options; a finished run with odd
settings, rows, schema or files; odd plans, models (configs, indices, weights, tokenizers, planted
code and pickles) and text (formats, encodings, compressions, names).

An input is *done* (exit status 0, and what was asked for is there and sound) or *refused* (status
2, one sentence `planner: …` of at most {judge.LONGEST} characters in the planner's own words, and
nothing half-written under its name). *wrong* is anything else: also over {PROCESSOR_SECONDS} s of
a processor, a file changed that was not to be, something left over, or planted code that ran.

*after* is this code, *before* another checkout on the same seed.
`python -m benchmarks.fuzz --only INDEX` shows one input, what was said and what is wrong.
"""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One input and how it ended."""

    index: int
    topic: str
    asked: Asked
    outcome: Outcome
    remarks: Sequence[str]
    faults: Sequence[tuple[str, str]]

    def __str__(self) -> str:
        kinds = "; ".join(f"{kind}: {what}" for kind, what in self.faults)
        return f"{self.index} {self.topic}: {shlex.join(self.asked.words)[:300]!a}\n    {kinds!r}"


def main() -> int:
    """Try, report, and return the exit status."""
    arguments = _arguments()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        materials = Materials(root=Path(scratch) / "materials")
        with Worker(arguments.checkout, Path(scratch) / "cache") as worker:
            materials.make(worker)
            if arguments.only is not None:
                return _show(_try(arguments.only, arguments.seed, materials, worker))
        tried = _try_all(range(0, COUNT, 10 if is_quick() else 1), arguments, materials)
    minutes = (time.monotonic() - started) / 60
    rows = _rows(tried, arguments, minutes)
    if is_quick():  # whose inputs are too few to be compared with those of another run
        print(*rows, sep="\n")
        return 0
    side = arguments.side
    wrong = float(sum(bool(one.faults) for one in tried))
    goals = [
        Goal(figure=f"wrong of {COUNT}:", value=wrong, limit=0, at_least=False),
        Goal(figure="minutes", value=minutes, limit=10, at_least=False),
    ]
    if side == "before":
        goals = _earlier_goals() or goals
    status = finish("fuzz", _merged(rows, side), goals, NOTES, seed=arguments.seed)
    return status if side == "after" else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkout", type=Path, default=HERE)
    parser.add_argument("--as", dest="side", choices=SIDES, default="after")
    parser.add_argument("--only", type=int)
    parser.add_argument("--topic", choices=TOPICS)
    return parser.parse_args()


def topic_of(index: int) -> str:
    """Return what is odd in an input; the topics take turns, and those of a turn are mixed."""
    turn = _TURNS.copy()
    random.Random(index // len(turn)).shuffle(turn)
    return turn[index % len(turn)]


def _try_all(
    indices: Sequence[int], arguments: argparse.Namespace, materials: Materials
) -> list[Tried]:
    """Try inputs by several workers, and print what is wrong."""
    wanted = [i for i in indices if arguments.topic in {None, topic_of(i)}]

    def attempt(index: int, worker: Worker) -> Tried:
        return _try(index, arguments.seed, materials, worker)

    def note(one: Tried, count: int) -> None:
        if one.faults:
            print(one, flush=True)
        if count % 100 == 0:
            print(f"{count} of {len(wanted)}", file=sys.stderr, flush=True)

    tried = try_all(wanted, attempt, note, lambda: materials.taught(arguments.checkout))
    return sorted(tried, key=lambda one: one.index)


def _try(index: int, seed: int, materials: Materials, worker: Worker) -> Tried:
    """Make an input, run the planner on it, and judge."""
    root = materials.root.parent / f"{index:04d}"
    place = Place(root=root / "place", materials=materials, rng=random.Random(f"{seed}:{index}"))
    asked = TOPICS[topic_of(index)][1](place)
    before = judge.snapshot(place)
    outcome = worker.run(asked.words, place.root)
    found = list(judge.faults(asked, outcome, place, before))
    shutil.rmtree(root, ignore_errors=True)
    return Tried(
        index=index,
        topic=topic_of(index),
        asked=asked,
        outcome=outcome,
        remarks=place.remarks,
        faults=found,
    )


def _show(tried: Tried) -> int:
    parts = [
        str(tried),
        *tried.remarks,
        "--- out",
        tried.outcome.out,
        "--- err",
        tried.outcome.err,
    ]
    print(*parts, f"--- status {tried.outcome.status}, {tried.outcome.seconds:.1f} s", sep="\n")
    return int(bool(tried.faults))


def _rows(tried: Sequence[Tried], arguments: argparse.Namespace, minutes: float) -> list[Row]:
    """Return a row for each topic, the sum, and which code it was."""
    side, rows = arguments.side, list[Row]()
    for topic in (*TOPICS, "all"):
        chosen = [one for one in tried if topic in {one.topic, "all"}]
        kinds = Counter(kind for one in chosen for kind, _ in dict(one.faults).items())
        sound = [one.outcome.status for one in chosen if not one.faults]
        cells: dict[str, str | float] = {
            "done": sound.count(0),
            "refused": sound.count(2),
            "wrong": len(chosen) - len(sound),
            "how": ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()) or "–",
        }
        named = {f"{side}: {name}": value for name, value in cells.items()}
        rows.append({"odd": topic, "inputs": len(chosen), **named})
    commit = ["git", "-C", str(arguments.checkout), "rev-parse", "--short=10", "HEAD"]
    found = subprocess.run(commit, capture_output=True, text=True, check=False).stdout.strip()
    rows.append({"code": side, "commit": found or "unknown", "minutes": minutes})
    wrong = [str(one.index) for one in tried if one.faults]
    return [*rows, {f"{side}: inputs that went wrong": ", ".join(wrong) or "none"}]


def _earlier() -> list[dict[str, str | float]]:
    """Return the rows that were reported last, if any."""
    path = report.RESULTS / "fuzz.json"
    if not path.is_file():
        return []
    rows: list[dict[str, str | float]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def _earlier_goals() -> list[Goal]:
    path = report.RESULTS / "fuzz.json"
    if not path.is_file() or not any("after: wrong" in row for row in _earlier()):
        return []
    goals = json.loads(path.read_text(encoding="utf-8"))["goals"]
    return [Goal(**{k: v for k, v in goal.items() if k != "holds"}) for goal in goals]


def _merged(rows: Sequence[Row], side: str) -> list[Row]:
    """Put these figures beside those of the other code that were reported earlier."""
    other = SIDES[1 - SIDES.index(side)]
    earlier, merged = _earlier(), list[Row]()
    by_topic = {row["odd"]: row for row in earlier if "odd" in row}
    for row in rows:
        if "odd" in row:
            kept = by_topic.get(row["odd"], {})
            cells = {k: v for k, v in kept.items() if k.startswith(f"{other}: ")}
            both = {**row, **(cells if kept.get("inputs") == row["inputs"] else {})}
            names = ["odd", "inputs", *(n for s in SIDES for n in both if n.startswith(f"{s}: "))]
            merged.append({name: both[name] for name in names})
    codes = [row for row in (*rows, *earlier) if "code" in row]
    merged += [
        next(r for r in codes if r["code"] == s) for s in SIDES if s in {r["code"] for r in codes}
    ]
    merged += [row for row in rows if f"{side}: inputs that went wrong" in row]
    return merged + [row for row in earlier if f"{other}: inputs that went wrong" in row]


if __name__ == "__main__":
    sys.exit(main())
