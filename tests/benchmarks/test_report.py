import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.report import INDEX_MARK, RESULTS, Goal, Row, finish, index

ROWS: list[Row] = [{"what": "tree", "seconds": 1.23456}, {"what": "separate", "seconds": 20.0}]


def goal(value: float, *, at_least: bool) -> Goal:
    return Goal(figure="saved", value=value, limit=0.45, at_least=at_least, percent=True)


@pytest.mark.parametrize(
    ("value", "at_least", "holds"),
    [(0.44, True, False), (0.45, True, True), (0.45, False, True), (0.46, False, False)],
)
def test_a_benchmark_ends_in_its_figure_and_succeeds_only_within_its_goals(
    value: float,
    at_least: bool,
    holds: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("QUICK", "1")
    always = goal(0.9, at_least=True)
    status = finish("toy", ROWS, [always, goal(value, at_least=at_least)], "What it is.", seed=3)
    assert status == (0 if holds else 1)
    last = f"saved {100 * value:.3g} % (goal {'≥' if at_least else '≤'} 45 %)"
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"toy: saved 90 % (goal ≥ 45 %); {last}"
    page = (tmp_path / "results" / "toy.md").read_text()
    assert all(line in page for line in [*printed, "What it is."])
    assert "| tree     | 1.23    |" in page
    measured = json.loads((tmp_path / "results" / "toy.json").read_text())
    assert measured["rows"] == ROWS
    assert [found["holds"] for found in measured["goals"]] == [True, holds]
    environment = measured["environment"]
    assert environment["command"] == "QUICK=1 python -m benchmarks.toy"
    assert environment["seed"] == 3
    assert {"cpu", "threads", "date", "torch"} <= set(environment)


def test_the_index_says_what_each_benchmark_measures_and_whether_its_goals_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    page = tmp_path / "README.md"
    page.write_text(f"Above.\n\n{INDEX_MARK}\nstale\n{INDEX_MARK}\n\nBelow.\n")
    monkeypatch.delenv("QUICK", raising=False)
    finish("memory", ROWS, [goal(0.5, at_least=True)], "What it is.", seed=3)
    monkeypatch.setenv("QUICK", "1")
    both = [goal(0.5, at_least=True), goal(0.5, at_least=False)]
    finish("truth", ROWS, both, "What it is.", seed=3)
    text = page.read_text()
    assert text.startswith(f"Above.\n\n{INDEX_MARK}\n| benchmark")
    assert text.endswith(f"|\n{INDEX_MARK}\n\nBelow.\n")
    assert "stale" not in text
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[5:7]]
    assert cells[0][0] == "[memory](memory.md)"
    assert cells[0][1].startswith("Minor page faults a candidate")
    assert cells[0][2:] == ["saved 50 % (goal ≥ 45 %)", "yes", "`make bench-memory`"]
    assert cells[1][3:] == ["**no**", "`QUICK=1 make bench-truth`"]


def test_the_committed_index_is_up_to_date() -> None:
    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert page.split(INDEX_MARK)[1] == f"\n{index()}\n"
