"""How the demo ends: by naming its report."""

import sys
from pathlib import Path

import pytest

from planner.cli.commands.demo_command import _report_line
from planner.run import Run


def test_the_demo_names_the_report_that_it_wrote(searched_copy: Path) -> None:
    with Run.open(searched_copy) as run:
        line = _report_line(run)
    report = searched_copy / "report.html"
    assert line == f"report:   {report}, which any browser opens"
    assert report.is_file()


def test_without_the_extra_it_says_how_to_get_one(
    searched_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with Run.open(searched_copy) as run:
        line = _report_line(run)
    assert "pip install 'compression-planner[browse]'" in line
    assert line.endswith(f"`planner report {searched_copy}` writes it")
    assert not (searched_copy / "report.html").exists()
