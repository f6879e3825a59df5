"""``planner report``: which file it writes, over what, and what it refuses."""

import sys
from pathlib import Path

import pytest

from planner.cli.main import main
from planner.run import Run
from planner.runs.folder import sort_out
from tests.planner.cli.commands import refused
from tests.problems.toy_search import SETTINGS

STARTS = {"html": b"<!DOCTYPE html>", "png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize(
    ("words", "name"),
    [([], "report.html"), (["--format", "svg"], "front.svg"), (["--format", "pdf"], "front.pdf")],
)
def test_it_is_written_into_the_run_and_over_itself(
    words: list[str], name: str, searched_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["report", str(searched_copy), *words]) == 0
        assert capsys.readouterr().out == f"report: {searched_copy / name}\n"
    content = (searched_copy / name).read_bytes()
    assert content.startswith(STARTS[name.rpartition(".")[2]])
    ours, others = sort_out(searched_copy)
    assert searched_copy / name in ours
    assert others == []


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_name_says_the_format_and_a_report_is_replaced(
    ending: str, searched: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"figure.{ending}"
    for _ in range(2):
        assert main(["report", str(searched), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(STARTS[ending])


def test_what_is_no_report_stays(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paper = tmp_path / "paper.svg"
    paper.write_text("mine")
    for out in (paper, tmp_path):
        said = refused(capsys, "report", str(searched), "--out", str(out))
        assert "must be a new file or replace an earlier report" in said
    assert paper.read_text() == "mine"
    said = refused(capsys, "report", str(searched), "--out", str(tmp_path / "no" / "a.svg"))
    assert "its folder does not exist; make it first" in said


@pytest.mark.parametrize(("words", "name"), [([], "report.html"), (["--format=svg"], "front.svg")])
def test_a_file_of_the_user_in_the_run_stays(
    words: list[str], name: str, searched_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (searched_copy / name).write_text("mine")
    said = refused(capsys, "report", str(searched_copy), *words)
    assert "must be a new file or replace an earlier report" in said
    assert (searched_copy / name).read_text() == "mine"


def test_a_name_and_a_format_that_differ_are_refused(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figure.PNG"
    said = refused(capsys, "report", str(searched), "--out", str(out), "--format", "html")
    assert f"`--format` must be what `--out` ends in, got html for `{out}`" in said
    assert not out.exists()


def test_standard_output_takes_no_report(
    searched: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "goes into a file, got `-`" in refused(capsys, "report", str(searched), "--out", "-")
    assert [*tmp_path.iterdir()] == []


def test_a_run_without_plans_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Run.create(tmp_path / "run", SETTINGS).close()
    said = refused(capsys, "report", str(tmp_path / "run"))
    assert "must hold a search that has begun to score" in said
    assert "must be the folder of a run" in refused(capsys, "report", str(tmp_path))


def test_without_the_extra_a_page_says_how_to_get_it(
    searched: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.delitem(sys.modules, "planner.reports.run_report.report_page", raising=False)
    said = refused(capsys, "report", str(searched))
    assert "a report as a page needs the package `plotly`" in said
    assert "compression-planner[browse]" in said
