import json
from pathlib import Path

import pytest

from tests.benchmarks import report
from tests.benchmarks.report import Goal, Row, finish

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
    assert environment["command"] == "QUICK=1 python -m tests.benchmarks.toy"
    assert environment["seed"] == 3
    assert {"cpu", "threads", "date", "torch"} <= set(environment)
