"""How many of 50 kills of a command leave all that was found, and nothing else behind.

``make kill`` kills at random moments and at exact ones: before or after a step, such as the n-th
renaming of a file, commit to the database or stage.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

from benchmarks.fuzzing import kills
from benchmarks.fuzzing.kills import KINDS, Killed, Moment, Place, Scenario, scenarios
from benchmarks.fuzzing.materials import Materials
from benchmarks.fuzzing.workers import HERE, Worker, try_all
from benchmarks.fuzzing.written import figures
from benchmarks.report import Goal, Row, finish, is_quick

TRIES = 8
MOMENTS: Mapping[str, str] = {
    "search": """
        replace 1, after-replace 1, replace 2, after-replace 3, mkdir 1, fsync 1, commit 1,
        after-commit 2, commit 5, after-commit 9, stage 2 .1, stage 5 .05, time, time, time, time
    """,
    "search --resume": """
        commit 1, after-commit 3, commit 6, replace 1, after-replace 2, unlink 1, time, time, time
    """,
    "compare": "replace 4, commit 4, after-commit 12, mkdir 2, stage 6 .02, time, time",
    "export": "replace 1, after-replace 1, mkdir 2, fsync 1, unlink 1, stage 3 .05, time, time",
    "to-moe": "replace 1, after-replace 1, stage 3 .05, time, time",
    "demo": "unlink 1, after-unlink 3, rmdir 1, replace 1, time",
}
"""By command: a step as `hooks.install` has it, which, and how many seconds after."""
DEMO_SECONDS = 6.0
"""Within which the demo is killed at random."""
NOTES = """
Each kill ends a small search, comparison, export, split or demo (by SIGKILL mostly, else SIGTERM
or SIGINT), and is followed by the command that goes on: `--resume`, or the same again.

*lost*: evaluations that were recorded and then are not, or figures that differ from those of a
command that was not killed. *left over*: temporary files and folders after the second command, or
at once after SIGTERM and SIGINT of an export. *foreign*: files of the user, beside the folder or
in it, that were changed or removed; a command may refuse those in it. *half-written*: files under
their final names that are not whole, before and after. *end*: a traceback, or a second command
that does not succeed. The demo's second command is ended once it has cleared the first and written
its settings.
"""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What a command that was not killed found, and how long it took."""

    figures: object
    seconds: float


def main() -> int:
    """Kill, report, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkout", type=Path, default=HERE)
    parser.add_argument("--only", choices=MOMENTS)
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kill-") as scratch:
        killed = _kill_all(arguments, Path(scratch))
    minutes = (time.monotonic() - started) / 60
    clean = sum(not one.faults for one in killed)
    goals = [
        Goal(figure=f"clean of {len(killed)}:", value=clean, limit=len(killed), at_least=True),
        Goal(figure="minutes", value=minutes, limit=25, at_least=False),
    ]
    rows = _rows(killed)
    if is_quick() or arguments.only or arguments.checkout != HERE:
        print(*rows, f"{clean} of {len(killed)} clean in {minutes:.1f} minutes", sep="\n")
        return 0
    return finish("kill", rows, goals, NOTES, seed=arguments.seed)


def moments(seed: int) -> list[tuple[str, Moment]]:
    """Return all kills: the command's name, and when and how it is ended."""
    rng, found = random.Random(seed), list[tuple[str, Moment]]()
    for name, text in MOMENTS.items():
        for words in text.split(","):
            step, *numbers = words.split()
            moment = Moment(
                step=step,
                count=int(numbers[0]) if numbers else 1,
                delay=float(numbers[1]) if len(numbers) > 1 else 0.0,
                share=rng.uniform(0.02, 0.98),
                number=rng.choice((SIGKILL,) * 5 + (SIGTERM, SIGINT)),
            )
            found.append((name, moment))
    return found


def _kill_all(arguments: argparse.Namespace, scratch: Path) -> list[Killed]:
    """Make what is needed, and try all kills by several workers."""
    wanted = [one for one in moments(arguments.seed) if arguments.only in {None, one[0]}]
    wanted = wanted[:: 4 if is_quick() else 1]
    materials, whole = Materials(root=scratch / "materials"), dict[str, Whole]()
    with Worker(arguments.checkout, scratch / "cache") as worker:
        materials.make(worker)
        for name in dict.fromkeys(name for name, _ in wanted):
            whole[name] = _whole(scenarios(materials)[name], materials, worker)

    def attempt(one: tuple[int, tuple[str, Moment]], worker: Worker) -> Killed:
        index, (name, moment) = one
        rng = random.Random(f"{arguments.seed}:{index}")
        ended = Attempt(materials, worker, scratch / f"{index:02d}").kill(
            name, moment, whole[name], rng
        )
        return replace(ended, index=index)

    def note(ended: Killed, _count: int) -> None:
        print(ended.index, ended, flush=True)

    return try_all(
        list(enumerate(wanted)), attempt, note, lambda: materials.taught(arguments.checkout)
    )


def _whole(scenario: Scenario, materials: Materials, worker: Worker) -> Whole:
    """Run a command that is not killed; of the demo, make one to be replaced."""
    began = time.monotonic()
    root = Path(tempfile.mkdtemp(dir=materials.root.parent)) / scenario.command
    if scenario.until:  # it has begun: its settings and a database are there
        early = Moment(step="after-commit", count=2).order(0)
        worker.run(scenario.words, materials.root, processor_seconds=300, **early)
        (materials.root / "work" / "out").rename(materials.path("demo"))
        return Whole(figures=None, seconds=DEMO_SECONDS)
    place = Place(root, scenario, materials)
    outcome = worker.run(scenario.words, place.root)
    if outcome.status:
        raise RuntimeError(f"{scenario.command} failed: {outcome.err[-2000:]}")
    return Whole(figures=figures(place.out), seconds=time.monotonic() - began)


class Attempt:
    """One kill, tried at earlier and earlier moments until the command is killed."""

    def __init__(self, materials: Materials, worker: Worker, root: Path) -> None:
        self._materials, self._worker, self._root = materials, worker, root

    def kill(self, name: str, moment: Moment, whole: Whole, rng: random.Random) -> Killed:
        """Kill a command and run what goes on; return what was wrong."""
        scenario = scenarios(self._materials)[name]
        for attempt in range(TRIES):
            place = Place(self._root / str(attempt), scenario, self._materials)
            killed = kills.kill(scenario, moment, place, self._worker, whole.seconds)
            if killed is not None:
                kills.go_on(killed, place, self._worker, rng, whole.figures)
                shutil.rmtree(self._root, ignore_errors=True)
                return replace(killed, name=name)
            moment = moment.earlier()
        raise RuntimeError(f"{name} always ends before it can be killed")


def _rows(killed: Sequence[Killed]) -> list[Row]:
    """Return a row for each command and kind of moment."""
    rows = list[Row]()
    for name in MOMENTS:
        for step in dict.fromkeys(one.moment.step for one in killed if one.name == name):
            chosen = [one for one in killed if (one.name, one.moment.step) == (name, step)]
            counts = {kind: sum(kind in dict(one.faults) for one in chosen) for kind in KINDS}
            text = "random" if step == "time" else step.replace("-", " ")
            numbers = ", ".join(sorted({one.moment.number.name for one in chosen}))
            row: dict[str, str | float] = {"command": name, "moment": text, "kills": len(chosen)}
            rows.append({**row, "by": numbers, **counts})
    return rows


if __name__ == "__main__":
    sys.exit(main())
