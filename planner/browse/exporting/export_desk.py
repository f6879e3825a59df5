"""Exports that the page begins: processes of their own, which outlive the page and its server."""

import os
import platform
import secrets
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import psutil
from filelock import FileLock
from pydantic import ValidationError

from planner.browse.exporting.export_record import (
    RECORDS_FOLDER,
    ExportProgress,
    ExportRecord,
    is_running,
    log_path,
    out_option,
    progress_of,
)
from planner.browse.inner_paths import leads_in, new_folder, run_folder
from planner.browse.run_shelf import RunShelf
from planner.targets.gguf.gguf_types import as_type
from planner.targets.target_names import TargetName
from search_spaces.atomic_files import (
    atomic_write_text,
    clear_scratch,
    make_folder,
    writing,
)
from search_spaces.errors import OutputError, SettingsError, quoted

_LOCK_FILE = "begin.lock"
"""Held while an export is begun: several servers may serve one folder."""
_MOST_RECORDS = 50
"""Exports that are told of; records of older ones stay on the disk."""


@dataclass(frozen=True, kw_only=True)
class ExportOrder:
    """What a visitor asks for."""

    run: str
    plan_id: str
    format: str
    gguf_type: str | None
    out: str
    """The folder to make, its path below the folder of the page."""

    def check_target(self) -> TargetName:
        """Return the target's name.

        Raises:
            SettingsError: If there is no such target, or no such number format.
        """
        for name in get_args(TargetName):
            if name == self.format:
                if name == "gguf" and self.gguf_type:
                    as_type(self.gguf_type)
                return name  # type: ignore[no-any-return]
        raise SettingsError(
            f"an export must be one of {', '.join(get_args(TargetName))}, got "
            f"{quoted(self.format, 20)}; choose one of these"
        )


class ExportDesk:
    """Begins exports, and tells what became of all that were begun in a folder.

    Args:
        shelf: The runs, in the folder that exports go to.
    """

    def __init__(self, shelf: RunShelf) -> None:
        self._shelf = shelf
        self._folder = shelf.folder
        self._begun: list[subprocess.Popen[bytes]] = []
        self._tidied: set[str] = set()

    def begin(self, order: ExportOrder) -> ExportRecord:
        """Begin an export.

        Raises:
            InputError: If the run has no such plan, the folder is taken or leads out, or another
                export is running.
        """
        target = order.check_target()
        self._shelf.ask(lambda run: run.plan(order.plan_id), order.run)
        out = new_folder(self._folder, order.out)
        make_folder(self._records())
        with writing(self._records()), FileLock(self._records() / _LOCK_FILE):
            self._check_idle()
            job = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
            command = [
                *(sys.executable, "-P", "-m", "planner", "export"),
                str(run_folder(self._folder, order.run).absolute()),
                *(f"--plan={order.plan_id}", f"--format={target}", out_option(out)),
            ]
            if target == "gguf" and order.gguf_type:
                command.append(f"--gguf_type={order.gguf_type}")
            process = self._start(job, command)
            record = ExportRecord(
                job=job,
                run=order.run.encode(errors="replace").decode(),  # names are no text at times
                plan_id=order.plan_id,
                format=target,
                gguf_type=order.gguf_type if target == "gguf" else None,
                out=order.out,
                started_at=datetime.now(UTC),
                machine=platform.node(),
                process=process.pid,
            )
            try:
                path = self._records() / f"{job}.json"
                atomic_write_text(path, record.model_dump_json(indent=1) + "\n")
            except OutputError:  # nobody would hear of it again
                process.terminate()
                raise
        return record

    def exports(self) -> list[ExportProgress]:
        """Return what became of the exports that were begun in the folder, the youngest first."""
        self._begun = [process for process in self._begun if process.poll() is None]
        found = [progress_of(self._folder, record) for record in self._read_records()]
        for export in found:
            if export.state == "stopped":
                self._tidy(export.record)
        return found

    def free_name(self, name: str) -> str:
        """Return a name of a folder that is not taken: the same, or with a number."""
        names = (name, *(f"{name}-{number}" for number in range(2, 100)))
        return next((n for n in names if not os.path.lexists(self._folder / n)), name)

    def stop(self, job: str) -> None:
        """Ask the process of an export to end; it leaves nothing behind."""
        for record in self._read_records():
            if record.job == job and is_running(self._folder, record):
                with suppress(psutil.Error):
                    psutil.Process(record.process).terminate()

    def _tidy(self, record: ExportRecord) -> None:
        """Delete what an export left that was killed, once: it may be as large as the model."""
        out = self._folder / record.out
        if record.job not in self._tidied and leads_in(self._folder, out):
            clear_scratch(out)
            self._tidied.add(record.job)

    def _start(self, job: str, command: list[str]) -> "subprocess.Popen[bytes]":
        log = log_path(self._folder, job)
        with writing(log), log.open("wb") as stream:
            # a session of its own: no signal to the server's terminal reaches it
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._begun.append(process)
        return process

    def _check_idle(self) -> None:
        """Refuse a second export at a time: each needs the memory of a whole model.

        Raises:
            SettingsError: If one is running.
        """
        running = [record for record in self._read_records() if is_running(self._folder, record)]
        if running:
            raise SettingsError(
                f"exports run one at a time, and that into {quoted(running[0].out)} is running; "
                "wait for its end, or stop it"
            )

    def _records(self) -> Path:
        """Return the folder of the records.

        Raises:
            OutputError: If it is a link, which may lead anywhere.
        """
        place = self._folder / RECORDS_FOLDER
        if place.is_symlink():
            raise OutputError(f"`{place}` must be a folder, got a link; remove it")
        return place

    def _read_records(self) -> list[ExportRecord]:
        try:
            paths = sorted(self._records().glob("*.json"), reverse=True)  # by the time
        except (OSError, OutputError):
            return []
        records: list[ExportRecord] = []
        for path in paths:
            with suppress(OSError, ValidationError):  # of another version
                records.append(ExportRecord.model_validate_json(path.read_bytes()))
            if len(records) == _MOST_RECORDS:
                break
        return records
