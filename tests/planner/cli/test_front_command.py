"""``planner front``: what it prints of a run, and what it does without."""

import csv
import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pandas as pd
import pytest

from evaluators.metric import COST_KINDS, metric_names
from planner import Run
from planner.cli.main import main
from tests import ROOT
from tests.planner.cli.screens import Screen
from tests.problems.toy_search import SETTINGS


def test_it_loads_no_torch(searched: Path) -> None:
    """In a process of its own, for the tests' have it loaded."""
    plan = Run.open(searched).front_plans()[0].plan_id
    commands = [["front", str(searched)], ["show", str(searched), plan], ["runs", str(searched)]]
    code = (
        f"import sys\nfrom planner.cli.main import main\n"
        f"assert [main(words) for words in {commands}] == [0, 0, 0]\n"
        "print(*{'torch', 'transformers', 'matplotlib'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_an_option_that_moved_says_where(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["front", str(searched), "--plan", "x"]) == 2
    assert "got `--plan`; `planner show RUN PLAN` shows" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["--budgets", "0.5x", "--knee"], ["--json", "--stability"], ["--csv", "--reference", "1"]],
)
def test_data_are_printed_alone(
    words: list[str], searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["front", str(searched), *words]) == 2
    said = f"`{words[0]}` prints its answer and nothing else, got `"
    assert said in capsys.readouterr().err


def test_two_formats_at_once_are_refused(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["front", str(searched), "--json", "--csv"]) == 2
    assert "one format can be printed at a time" in capsys.readouterr().err


def test_a_front_as_data_is_the_table_of_the_run_and_nothing_else(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.open(searched)
    front, knee = run.front(), run.knee()
    best = run.best("params<=0.8x").plan_id
    words = ["front", str(searched), "--budget", "params<=0.8x"]
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["plan_id"] for row in rows] == list(front["plan_id"])
    assert list(rows[0]) == [*front.columns, "best", "knee"]
    assert [row["plan_id"] for row in rows if row["best"]] == [best]
    assert [row["plan_id"] for row in rows if row["knee"]] == ([knee.plan_id] if knee else [])
    assert [row["kl"] for row in rows] == list(front["kl"])
    assert main([*words, "--csv"]) == 0
    read = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(read.columns) == list(rows[0])
    assert read["params"].tolist() == front["params"].tolist()


def test_answers_to_many_budgets_as_data(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["front", str(searched), "--budgets", "0.8x,0.001x", "--json"]) == 0
    met, missed = json.loads(capsys.readouterr().out)
    assert (met["budget"], met["refusal"]) == ("params<=0.8x", "")
    assert "cannot be met" in missed["refusal"]
    assert missed["kl"] is None


def columns(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> list[str]:
    assert main(["front", *words, "--csv"]) == status
    return next(csv.reader(io.StringIO(capsys.readouterr().out)))


def test_columns_stay_whatever_was_measured(
    toy: Run, searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The toy's plans lack what only a front is measured by; some were never re-scored."""
    costs = metric_names(*COST_KINDS)
    few, all_of_them = columns(capsys, str(toy.folder)), columns(capsys, str(searched))
    assert "holdout_cosine" not in toy.front()
    assert [name for name in few if name.removesuffix("_x") not in costs] == [
        name for name in all_of_them if name.removesuffix("_x") not in costs
    ]
    met = columns(capsys, str(toy.folder), "--budgets", "0.9x")
    assert met == ["budget", *few[:-2], "refusal"]
    assert columns(capsys, str(toy.folder), "--budgets", "0.001x", status=2) == met


def test_a_table_fits_its_terminal_and_is_whole_in_a_file(
    searched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    with redirect_stdout(Screen()) as screen:
        assert main(["front", str(searched)]) == 0
    assert main(["front", str(searched)]) == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    folded, whole = (_tables(text) for text in (shown, capsys.readouterr().out))
    assert max(len(line) for table in folded for line in table) <= 60
    (table,) = whole
    assert max(map(len, table)) > 60
    assert _words(folded) == _words(whole)


def _tables(text: str) -> list[list[str]]:
    """Return the lines of the tables of plans in a text."""
    parts = [part.splitlines() for part in text.split("\n\n")]
    return [lines for lines in parts if lines[0].split()[:1] == ["plan"]]


def _words(tables: list[list[str]]) -> set[str]:
    return {word for lines in tables for line in lines for word in line.split()}


def test_a_run_that_is_not_finished_says_how_far_it_came(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["front", str(searched)]) == 0
    assert "is not finished" not in capsys.readouterr().out
    folder = Path(shutil.copytree(searched, tmp_path / "run"))
    further = Run.open(folder).settings.model_copy(update={"evaluations": 500})
    with Run.resume(folder, further) as run:
        run.keep_settings()
        run.begin_session()
        run.record_status("searching", "searching", 0.433, eta_seconds=192.0)
    assert main(["front", str(folder)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("this run is not finished: searching, 43%, 3.2 min left, as of 20")
    assert last.endswith(" UTC")


def test_a_damaged_status_is_told_before_anything_is_printed(
    searched_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(searched_copy / "run.sqlite") as database:
        database.execute("update status set state = 'dreaming'")
    database.close()
    assert main(["front", str(searched_copy)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "its status has 'dreaming' as its `state`" in printed.err


def test_a_run_that_has_not_begun_to_score_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Run.create(tmp_path / "run", SETTINGS) as run:
        run.record_status("preparing", "loading toy")
    assert main(["front", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert (
        "must hold a search that has begun to score, got one that is preparing: loading toy"
        in said
    )
