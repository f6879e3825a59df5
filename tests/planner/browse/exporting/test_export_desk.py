"""Exports outlive the page, and say what became of them."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from planner.browse.exporting.export_desk import ExportDesk, ExportOrder
from planner.browse.exporting.export_record import (
    RECORDS_FOLDER,
    ExportRecord,
    is_running,
    log_path,
    out_option,
    progress_of,
)
from planner.browse.run_shelf import RunShelf
from planner.runs.folder import MANIFEST_FILE
from search_spaces.errors import InputError, OutputError, PlanError, SettingsError
from tests.planner.export.cards.manifests import MANIFEST

SLEEP = "import time; time.sleep(60)"
MADE = {"plan_id": MANIFEST.plan_id, "format": MANIFEST.format}
"""Of an export that the manifest is of."""


@pytest.fixture
def own(searched_copy: Path) -> Iterator[RunShelf]:
    shelf = RunShelf(searched_copy.parent)
    yield shelf
    shelf.close()


def order(shelf: RunShelf, out: str = "out", **details: str) -> ExportOrder:
    (name,) = [entry.path.as_posix() for entry in shelf.entries()]
    plan_id = shelf.ask(lambda run: run.front_plans()[0].plan_id, name)
    given = {"run": name, "plan_id": plan_id, "format": "hf", "gguf_type": None, "out": out}
    return ExportOrder(**(given | details))


def record(folder: Path, process: int, **details: str) -> ExportRecord:
    (folder / RECORDS_FOLDER).mkdir(exist_ok=True)
    found = ExportRecord(
        job="job",
        run="run",
        plan_id="a1",
        format="hf",
        out="out",
        started_at=datetime.now(UTC),
        machine=platform.node(),
        process=process,
    ).model_copy(update=details)
    path = folder / RECORDS_FOLDER / "job.json"
    path.write_text(found.model_dump_json(), encoding="utf-8")
    return found


def write_manifest(out: Path) -> None:
    out.mkdir()
    (out / MANIFEST_FILE).write_text(MANIFEST.model_dump_json(), encoding="utf-8")


def say(folder: Path, text: str) -> None:
    log_path(folder, "job").write_text(text, encoding="utf-8")


def sleeper(folder: Path, out: str = "out") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SLEEP, out_option(folder / out)])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"plan_id": "nonsense"}, PlanError),
        ({"plan_id": "--budget=1"}, PlanError),
        ({"format": "exe"}, SettingsError),
        ({"format": "gguf", "gguf_type": "Q9"}, SettingsError),
        ({"out": "../out"}, OutputError),
        ({"out": "/tmp/out"}, OutputError),
        ({"run": "../elsewhere"}, InputError),
    ],
)
def test_what_cannot_be_is_refused_before_anything_begins(
    own: RunShelf, change: dict[str, str], error: type[InputError]
) -> None:
    with pytest.raises(error):
        ExportDesk(own).begin(order(own, **change))
    assert not (own.folder / RECORDS_FOLDER).exists()


def test_a_folder_that_is_there_is_not_written_over(own: RunShelf) -> None:
    (own.folder / "out").mkdir()
    with pytest.raises(OutputError, match="taken"):
        ExportDesk(own).begin(order(own))
    assert ExportDesk(own).free_name("out") == "out-2"


def test_one_export_runs_at_a_time_and_can_be_stopped(own: RunShelf) -> None:
    process, desk = sleeper(own.folder, "other"), ExportDesk(own)
    record(own.folder, process.pid, out="other")
    with pytest.raises(SettingsError, match="one at a time"):
        desk.begin(order(own))
    assert [export.state for export in desk.exports()] == ["running"]
    desk.stop("another")
    assert process.poll() is None
    desk.stop("job")
    assert process.wait(10) == -15
    assert [export.state for export in desk.exports()] == ["stopped"]


def test_a_process_that_took_its_number_is_not_it(tmp_path: Path) -> None:
    found = record(tmp_path, os.getpid())
    assert not is_running(tmp_path, found)
    process = sleeper(tmp_path)
    try:
        assert is_running(tmp_path, record(tmp_path, process.pid))
    finally:
        process.kill()
        process.wait()


def test_progress_is_read_from_the_log(tmp_path: Path) -> None:
    process = sleeper(tmp_path)
    try:
        found = record(tmp_path, process.pid)
        assert progress_of(tmp_path, found).said == "starting"
        say(tmp_path, "loading m …\nweighing …\nweighing: 10%\nweighing: 40% · making weights\n")
        export = progress_of(tmp_path, found)
        assert (export.state, export.said, export.share) == ("running", "weighing", 40)
        say(tmp_path, "weighing …\nweighing: 40%\ncutting …\n")
        export = progress_of(tmp_path, found)
        assert (export.said, export.share) == ("cutting", None)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("log", "state", "said"),
    [
        ("a …\nplanner: `--out` must be free, got a file", "failed", "`--out` must be free, got"),
        ("a …\n", "stopped", "its process ended without a word"),
        ("", "stopped", "its process ended without a word"),
        ("planner: stopped", "stopped", "it was stopped"),
        ("card\n\nexported: /tmp/out\n", "lost", ""),
        (
            "a …\n  planner search x --resume\nplanner: it must have begun\n",
            "failed",
            "it must have begun\nplanner search x --resume",
        ),
    ],
)
def test_a_dead_process_is_told_as_such(tmp_path: Path, log: str, state: str, said: str) -> None:
    found = record(tmp_path, 2**22 - 1)
    say(tmp_path, log)
    export = progress_of(tmp_path, found)
    assert export.state == state
    assert export.said.startswith(said)


def test_records_that_nobody_can_read_are_left_alone(own: RunShelf) -> None:
    record(own.folder, 2**22 - 1)
    for name, text in (("a.json", "{"), ("b.json", '{"version": 2}')):
        (own.folder / RECORDS_FOLDER / name).write_text(text)
    assert [export.record.job for export in ExportDesk(own).exports()] == ["job"]


def test_a_record_that_leads_out_tells_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    write_manifest(tmp_path / "out")
    write_manifest(folder / "out")
    inside, outside = record(folder, 1, **MADE), record(folder, 1, **MADE, out="../out")
    say(folder, "exported: out")
    assert progress_of(folder, inside).manifest == MANIFEST
    assert progress_of(folder, outside).manifest is None


def test_a_manifest_that_is_a_link_tells_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    write_manifest(tmp_path / "out")
    (folder / "out").mkdir(parents=True)
    (folder / "out" / MANIFEST_FILE).symlink_to(tmp_path / "out" / MANIFEST_FILE)
    found = record(folder, 1, **MADE)
    say(folder, "exported: out")
    assert progress_of(folder, found).state == "lost"


def test_a_proof_is_told_of_the_export_that_wrote_it(tmp_path: Path) -> None:
    """An export into a folder that another one of the same plan took later stays what it was."""
    refused = record(tmp_path, 1, **MADE)
    say(tmp_path, "planner: an export must compute what was scored")
    write_manifest(tmp_path / "out")
    assert progress_of(tmp_path, refused).state == "failed"
    say(tmp_path, "exported: out")
    assert progress_of(tmp_path, refused).state == "exported"
    for other in ({"plan_id": "other"}, {"format": "onnx"}):
        assert progress_of(tmp_path, record(tmp_path, 1, **(MADE | other))).state == "lost"
    manifest = tmp_path / "out" / MANIFEST_FILE
    for hours in (-1, 1):  # of another export, before it began or since it ended
        then = time.time() + 3600 * hours
        os.utime(manifest, (then, then))
        assert progress_of(tmp_path, refused).state == "lost"


def test_what_a_killed_export_left_is_deleted(own: RunShelf) -> None:
    out = own.folder / "out"
    code = (
        "import os, sys; from pathlib import Path;"
        "from search_spaces.atomic_files import scratch_beside\n"
        "with scratch_beside(Path(sys.argv[1])) as scratch:\n"
        "    (scratch / 'weights').touch(); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(out)], check=False)
    assert killed.returncode == -9
    assert [*own.folder.glob(".out.*.scratch")]
    record(own.folder, 2**22 - 1)
    say(own.folder, "cutting …\n")
    assert ExportDesk(own).exports()[0].state == "stopped"
    assert not [*own.folder.glob(".out.*.scratch")]


def test_two_servers_begin_one_export(own: RunShelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin_slowly(desk: ExportDesk, _job: str, command: list[str]) -> subprocess.Popen[bytes]:
        time.sleep(0.3)  # in which the other would find nobody at work
        process = subprocess.Popen([sys.executable, "-c", SLEEP, command[-1]])
        started.append(process)
        return process

    started: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(ExportDesk, "_start", begin_slowly)
    orders = [order(own, out) for out in ("one", "other")]
    try:
        with ThreadPoolExecutor(2) as visitors:
            begun = [visitors.submit(ExportDesk(own).begin, each) for each in orders]
        errors = [each.exception() for each in begun]
        assert sorted(type(error).__name__ for error in errors) == ["NoneType", "SettingsError"]
        assert len(started) == 1
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.slow  # two processes load torch
def test_an_export_is_made_and_proved_without_the_page(own: RunShelf) -> None:
    asked, before = order(own, "made/model"), ExportDesk(own)
    begun = before.begin(asked)
    after = ExportDesk(own)  # another server, later
    deadline = time.monotonic() + 120
    while psutil.pid_exists(begun.process) and time.monotonic() < deadline:
        before.exports()  # notices the end of its child
        time.sleep(0.2)
    (export,) = after.exports()
    assert export.state == before.exports()[0].state == "exported", log_path(
        own.folder, begun.job
    ).read_text()
    assert export.manifest is not None
    assert export.manifest.plan_id == asked.plan_id
    assert export.manifest.logit_gap <= export.manifest.logit_gap_allowed
