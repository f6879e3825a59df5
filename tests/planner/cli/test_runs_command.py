"""``planner runs``: what it says of a folder, as text and as data."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest

from planner.cli.main import main
from planner.results.run_list import list_runs
from tests.planner.cli.commands import refused
from tests.problems.toy_run import write_toy_run

COLUMNS = [
    "path", "state", "phase", "updated_at", "model", "budget", "evaluations", "recipes", "answer",
    "fault",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, searched: Path) -> Path:
    shutil.copytree(searched, tmp_path / "good")
    write_toy_run(tmp_path / "toy \x1b[31m").close()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "settings.yaml").write_text("version: 99", encoding="utf-8")
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["runs", *words]) == 0
    return capsys.readouterr().out


def test_runs_are_listed_with_their_answers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, str(folder))
    lines = text.splitlines()
    assert lines[0].split() == ["run", "state", "said", "model", "plans"]
    bad, good, toy = list_runs(folder)
    assert f"    within params<=0.8x: {good.answer}" in lines
    assert f"    {bad.fault}" in lines
    assert next(line for line in lines if line.startswith("bad")).split()[1] == "unreadable"
    assert next(line for line in lines if line.startswith("good")).split()[1] == "finished"
    assert str(toy.evaluations) in next(line for line in lines if "toy" in line)
    assert "\x1b" not in text


def test_runs_as_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(printed(capsys, str(folder), "--json"))
    assert [list(row) for row in rows] == [COLUMNS] * 3
    assert [row["path"] for row in rows] == ["bad", "good", "toy \x1b[31m"]
    assert [row["state"] for row in rows] == ["", "finished", "preparing"]
    assert rows[0]["updated_at"] is None
    assert rows[1]["updated_at"].endswith("+00:00")
    reader = csv.DictReader(io.StringIO(printed(capsys, str(folder), "--csv")))
    assert [row["evaluations"] for row in reader] == [str(row["evaluations"]) for row in rows]
    assert reader.fieldnames == COLUMNS


def test_a_folder_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, str(tmp_path)) == f"no runs in {tmp_path}\n"
    assert main(["runs", str(tmp_path), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == []
    assert "no runs in" in told.err
    assert "must be a folder with runs in it" in refused(capsys, "runs", str(tmp_path / "none"))


def test_a_name_that_no_line_or_text_can_hold_is_written_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a\nb", os.fsdecode(b"bad\xff"), "good"):
        write_toy_run(tmp_path / name).close()
    (tmp_path / "a\nb" / "run.sqlite").write_bytes(b"")  # whose fault names it
    lines = printed(capsys, str(tmp_path)).splitlines()
    assert [line.split()[0] for line in lines if not line.startswith("    ")] == [
        "run", "a\\nb", "bad\\udcff", "good",
    ]  # fmt: skip
    paths = ["a\nb", "bad\\udcff", "good"]
    rows = json.loads(printed(capsys, str(tmp_path), "--json"))
    assert [row["path"] for row in rows] == paths
    assert rows[0]["fault"]
    reader = csv.DictReader(io.StringIO(printed(capsys, str(tmp_path), "--csv"), newline=""))
    assert [row["path"] for row in reader] == paths
