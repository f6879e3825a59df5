"""Kills of a command at random and exact moments, and what is then held of what it left."""

import random
import re
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fuzzing.materials import BUDGET, TINY_SPLIT, Materials
from benchmarks.fuzzing.workers import Outcome, Worker
from benchmarks.fuzzing.written import check_finished, figures, read

KINDS = ("lost", "left over", "foreign", "half-written", "end")
"""What may be wrong; the last: a traceback, or a next command that does not succeed."""
_LEFT = re.compile(r"^\.[^/]*\.tmp|^\.out\.|^\.run\.|-journal$|-wal$|-shm$")
_USERS = {
    "notes.txt": "Not the planner's.\n",
    ".out.keep/notes.txt": "Not the planner's.\n",
    ".notes.tmp": "Not the planner's.\n",
}
"""Files of the user beside what is written, some by names that look like the planner's."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When a command is killed, and by which signal."""

    step: str
    """As `hooks.install` has it, or ``time``."""
    count: int = 1
    delay: float = 0.0
    share: float = 0.0
    """Of the time that the command takes, for ``time``."""
    number: signal.Signals = signal.SIGKILL

    def __str__(self) -> str:
        text = "a random time" if self.step == "time" else f"{self.step} {self.count}"
        later = f" + {self.delay:.2f} s" if self.delay else ""
        return f"{text.replace('-', ' ')}{later}"

    def order(self, seconds: float) -> dict[str, object]:
        """Return what a worker is told, of a command that takes so many seconds."""
        if self.step == "time":
            return {"signal_after": self.share * seconds, "signal": int(self.number)}
        words = {"step": self.step, "count": self.count, "delay": self.delay}
        return {"hook": {**words, "number": int(self.number)}}

    def earlier(self) -> "Moment":
        """Return a moment that comes before this one, for a command that ended before it."""
        if self.count > 1:
            count = self.count // 2
            return Moment(step=self.step, count=count, delay=self.delay, number=self.number)
        share = self.share / 2 if self.step == "time" else 0.5
        return Moment(step="time", share=share, number=self.number)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A command that is killed, and what is run then."""

    command: str
    words: Sequence[str]
    again: Sequence[str]
    """What goes on with it, or does it again."""
    start: str | None = None
    """What of the materials lies in ``out`` at first."""
    until: Moment | None = None
    """Where what goes on is ended in turn, if it takes too long to be waited for."""

    @property
    def is_run(self) -> bool:
        """Return whether it leaves a run, and not an export."""
        return self.command in {"search", "compare", "demo"}


@dataclass(kw_only=True)
class Killed:
    """One kill, and what was wrong after it."""

    scenario: Scenario
    moment: Moment
    name: str = ""
    """Of the scenario."""
    index: int = 0
    """Among all kills."""
    faults: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        moment, name = self.moment, self.moment.number.name
        return f"{self.name}, {moment}, {name}: {self.faults or 'clean'}"


def scenarios(materials: Materials) -> Mapping[str, Scenario]:
    """Return the commands that are killed, by name."""
    limits = ("--evaluations", "--minutes")
    common = [word for word in materials.search[1:] if not word.startswith(limits)]
    common += ["--evaluations=12", "--out=out"]
    search, compare = ["search", *common], ["compare", *common, "--recipes=uniform,greedy"]
    model, run = str(materials.path("Llama")), str(materials.path("run"))
    data = f"--data={materials.path('text.txt')}"
    export = ["export", run, f"--budget={BUDGET}", "--out=out"]
    split = ["to-moe", model, data, *TINY_SPLIT, "--out=out"]
    demo = ["demo", "--out=out"]
    resumed = [*search, "--resume"]
    return {
        "search": Scenario(command="search", words=search, again=resumed),
        "search --resume": Scenario(command="search", words=resumed, again=resumed, start="run"),
        "compare": Scenario(command="compare", words=compare, again=[*compare, "--resume"]),
        "export": Scenario(command="export", words=export, again=export),
        "to-moe": Scenario(command="to-moe", words=split, again=split),
        "demo": Scenario(
            command="demo",
            words=demo,
            again=demo,
            start="demo",
            until=Moment(step="after-replace"),  # its settings are written
        ),
    }


class Place:
    """A folder in which a command is killed, with files of the user beside and inside."""

    def __init__(self, root: Path, scenario: Scenario, materials: Materials) -> None:
        self.root, self.work, self.out = root, root / "work", root / "work" / "out"
        self._users: dict[Path, str] = {}
        self.work.mkdir(parents=True)
        for name, text in _USERS.items():
            self.plant(self.work / name, text)
        if scenario.start:
            shutil.copytree(materials.path(scenario.start), self.out)

    def plant(self, path: Path, text: str = "Not the planner's.\n") -> None:
        """Write a file that is the user's."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        self._users[path] = text

    def take(self, path: Path) -> None:
        """Remove a file of the user, as the user may."""
        del self._users[path]
        path.unlink(missing_ok=True)

    def harmed(self) -> Iterator[tuple[str, str]]:
        """Yield the user's files that are not as they were."""
        for path, text in self._users.items():
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                yield "foreign", str(path.relative_to(self.work))

    def left(self) -> Iterator[tuple[str, str]]:
        """Yield temporary names that are not the user's."""
        for path in sorted(self.work.rglob("*")):
            is_users = any(path == own or path in own.parents for own in self._users)
            if _LEFT.search(path.name) and not is_users:
                yield "left over", str(path.relative_to(self.work))

    def half_written(self, scenario: Scenario) -> Iterator[tuple[str, str]]:
        """Yield files under final names that cannot be read, and exports that are not whole."""
        for path in sorted(self.out.rglob("*")):
            if path.is_file() and path not in self._users and not path.name.startswith("."):
                try:
                    read(path)
                except Exception as error:  # noqa: BLE001  (whatever a reader finds)
                    yield "half-written", f"{path.relative_to(self.work)}: {error}"[:200]
        if not scenario.is_run and self.out.exists():
            try:
                check_finished(scenario.command, self.out)
            except (OSError, ValueError, KeyError) as error:
                yield "half-written", f"{scenario.command}: {error}"[:200]

    def evaluations(self) -> set[tuple[str, str]]:
        """Return what any database in the folder holds: its place and the genome."""
        found = set[tuple[str, str]]()
        for path in self.out.rglob("run.sqlite"):
            with tempfile.TemporaryDirectory() as scratch:  # reading would merge the log
                for part in path.parent.glob("run.sqlite*"):
                    shutil.copyfile(part, Path(scratch) / part.name)
                with closing(sqlite3.connect(Path(scratch) / path.name)) as connection:
                    tables = connection.execute("select name from sqlite_master").fetchall()
                    if ("evaluations",) in tables:
                        rows = connection.execute("select genome from evaluations").fetchall()
                        found |= {(str(path.relative_to(self.out)), genome) for (genome,) in rows}
        return found


def kill(
    scenario: Scenario, moment: Moment, place: Place, worker: Worker, seconds: float
) -> Killed | None:
    """Kill a command and run the next; None if it ended before it could be killed."""
    killed = Killed(scenario=scenario, moment=moment)
    outcome = worker.run(scenario.words, place.root, **moment.order(seconds))
    if outcome.status in {0, 2}:
        return None
    is_asked = moment.number != signal.SIGKILL
    if is_asked and "Traceback" in outcome.err:
        killed.faults.append(("end", outcome.err.strip()[-200:]))
    if is_asked and not scenario.is_run:
        killed.faults += place.left()  # it had the time to tidy up
    killed.faults += [*place.half_written(scenario), *place.harmed()]
    return killed


def go_on(
    killed: Killed, place: Place, worker: Worker, rng: random.Random, expected: object
) -> None:
    """Run what goes on with a killed command, and hold what it then finds."""
    scenario, before = killed.scenario, place.evaluations()
    if not scenario.is_run and place.out.is_dir():  # all was done; the user wants it again
        if figures(place.out) != expected:
            killed.faults.append(("lost", "the export is not that of a whole command"))
        shutil.rmtree(place.out)
    inside = place.out / rng.choice(("notes.txt", "levels/notes.txt", ".notes.tmp"))
    is_inside = place.out.is_dir() and rng.random() < 0.4
    if is_inside:
        place.plant(inside)
    outcome = _again(scenario, place, worker)
    if outcome.status == 2 and is_inside:  # as it may be
        killed.faults += place.harmed()
        place.take(inside)
        outcome = _again(scenario, place, worker)
    expected_status = -signal.SIGKILL if scenario.until else 0
    if outcome.status != expected_status or "Traceback" in outcome.err:
        killed.faults.append(("end", f"{outcome.status}: {outcome.err.strip()[-200:]}"))
    lost = set() if scenario.until else before - place.evaluations()
    if lost:
        killed.faults.append(("lost", f"{len(lost)} of {len(before)} evaluations"))
    if not outcome.status and figures(place.out) != expected:
        killed.faults.append(("lost", "the figures are not those of a whole command"))
    killed.faults += [*place.harmed(), *place.left(), *place.half_written(scenario)]


def _again(scenario: Scenario, place: Place, worker: Worker) -> Outcome:
    """Go on, or begin again where there is nothing to go on with."""
    order = scenario.until.order(0) if scenario.until else {}
    outcome = worker.run(scenario.again, place.root, **order)
    has_begun = (place.out / "settings.yaml").exists()
    if outcome.status == 2 and "--resume" in scenario.again and not has_begun:
        return worker.run([word for word in scenario.again if word != "--resume"], place.root)
    return outcome
