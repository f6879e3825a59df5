"""One export that the page began: its record on disk, and what has become of it since."""

import platform
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil
from pydantic import AwareDatetime, BaseModel, ConfigDict

from planner.browse.inner_paths import leads_in
from planner.reports.known_exports import read_manifest
from planner.runs.folder import MANIFEST_FILE
from planner.targets.target_names import TargetName

if TYPE_CHECKING:
    from planner.export.cards.manifest import Manifest

RECORDS_FOLDER = ".planner-exports"
"""In the folder of the page: a record and a log for each export that was begun there."""
_LAST_BYTES = 16_384
"""Of a log; its end says all that is shown."""
_CLOCKS = timedelta(seconds=2)
"""By which the times of files and of processes may be off."""
_BEGINNING = 1.0
"""Seconds in which a process shows its command, once it has begun."""
_REFUSAL = "planner: "
_COMMAND = "  "
"""Begins the line of a command that mends a refusal, before it."""
_DONE = "exported: "
_STAGE = re.compile(r"(?P<title>.+) …")
_SHARE = re.compile(r": (?P<percent>\d+)%( · .*)?")

ExportState = Literal["running", "exported", "failed", "stopped", "lost"]
"""``lost``: it was made, and its folder is gone since, or another export's."""
IN_WORDS: dict[ExportState, str] = {
    "running": "running",
    "exported": "exported and proved",
    "failed": "refused; nothing was left",
    "stopped": "ended before its end",
    "lost": "exported, and its folder is gone since, or another export's",
}


class ExportRecord(BaseModel):
    """What an export was asked for, and by which process."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Literal[1] = 1
    job: str
    """Its name among all."""
    run: str
    """Path of the run below the folder of the page; ``out`` too."""
    plan_id: str
    format: TargetName
    gguf_type: str | None = None
    out: str
    started_at: AwareDatetime
    machine: str
    process: int


@dataclass(frozen=True, kw_only=True)
class ExportProgress:
    """How far an export has come."""

    record: ExportRecord
    state: ExportState
    said: str = ""
    """What it is doing, or why there is none, in words."""
    share: int | None = None
    """Of what it is doing, in percent, if it is known."""
    manifest: "Manifest | None" = None
    """What was measured of it, once it is proved."""

    @property
    def minutes(self) -> float:
        """Since it began."""
        passed = datetime.now(self.record.started_at.tzinfo) - self.record.started_at
        return passed.total_seconds() / 60


def progress_of(folder: Path, record: ExportRecord) -> ExportProgress:
    """Return how far an export has come, by what lies on the disk and which processes run."""
    lines = _last_lines(log_path(folder, record.job))
    if any(line.startswith(_DONE) for line in lines):
        manifest = _own_manifest(folder, record)
        state: ExportState = "lost" if manifest is None else "exported"
        return ExportProgress(record=record, state=state, manifest=manifest)
    if is_running(folder, record):
        said, share = _doing(lines)
        return ExportProgress(record=record, state="running", said=said, share=share)
    reason = _reason(lines)
    if reason and not reason.startswith("stopped"):
        return ExportProgress(record=record, state="failed", said=reason)
    said = "it was stopped" if reason else "its process ended without a word"
    if record.machine != platform.node():
        said = f"it was begun on {record.machine}, of whose processes nothing is known here"
    return ExportProgress(record=record, state="stopped", said=f"{said}; begin it again")


def log_path(folder: Path, job: str) -> Path:
    """Return where an export writes what it says."""
    return folder / RECORDS_FOLDER / f"{job}.log"


def out_option(out: Path) -> str:
    """Return the word of a command that names the folder to make."""
    return f"--out={out.absolute()}"


def is_running(folder: Path, record: ExportRecord) -> bool:
    """Return whether the process of an export runs.

    Numbers of processes are given again, so it is known by its command.
    """
    try:
        command = _command(psutil.Process(record.process))
    except psutil.Error:
        return False
    return record.machine == platform.node() and out_option(folder / record.out) in command


def _command(process: psutil.Process) -> list[str]:
    """Return the command of a process; one that begins just now has none for a moment."""
    until = time.monotonic() + _BEGINNING
    while not (command := process.cmdline()) and time.monotonic() < until:
        time.sleep(_BEGINNING / 100)
    return command


def _own_manifest(folder: Path, record: ExportRecord) -> "Manifest | None":
    """Return what an export wrote of itself; `None` if its folder is gone, or another's by now.

    Its own was written while it ran: not before it began, nor after its last word.
    """
    out = folder / record.out
    manifest = read_manifest(out) if leads_in(folder, out) else None
    if manifest is None or (manifest.plan_id, manifest.format) != (record.plan_id, record.format):
        return None
    try:
        written, ended = (
            datetime.fromtimestamp(path.stat().st_mtime, UTC)
            for path in (out / MANIFEST_FILE, log_path(folder, record.job))
        )
    except OSError:  # gone just now
        return None
    return manifest if record.started_at - _CLOCKS <= written <= ended + _CLOCKS else None


def _reason(lines: list[str]) -> str:
    """Return why an export was refused, and the commands that mend it; empty: it was not."""
    places = [place for place, line in enumerate(lines) if line.startswith(_REFUSAL)]
    if not places:
        return ""
    start = last = places[-1]
    while start and lines[start - 1].startswith(_COMMAND):
        start -= 1
    return "\n".join([lines[last].removeprefix(_REFUSAL), *map(str.strip, lines[start:last])])


def _last_lines(log: Path) -> list[str]:
    """Return the end of a log, line by line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


def _doing(lines: list[str]) -> tuple[str, int | None]:
    """Return the stage that an export is in, and its share in percent if it says one."""
    title, share = "starting", None
    for line in lines:
        if stage := _STAGE.fullmatch(line):
            title, share = stage["title"], None
        elif done := _SHARE.search(line):
            share = int(done["percent"])
    return title, share
