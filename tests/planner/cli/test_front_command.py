"""``planner front``: what it prints of a run, and what it does without."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from planner import Run
from planner.cli.main import main
from tests import ROOT
from tests.problems.toy_search import SETTINGS


def test_it_loads_no_torch(searched: Path) -> None:
    """In a process of its own, for the tests' have it loaded."""
    plan = Run.open(searched).front_plans()[0].plan_id
    commands = [["front", str(searched)], ["front", str(searched), "--plan", plan]]
    code = (
        f"import sys\nfrom planner.cli.main import main\n"
        f"assert [main(words) for words in {commands}] == [0, 0]\n"
        "print(*{'torch', 'transformers', 'matplotlib'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_a_plan_is_shown_layer_by_layer(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = Run.open(searched).best("params<=0.8x").plan_id
    assert main(["front", str(searched), "--plan", best]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["layer", "component", "kept", "of", "share", "options"]
    frame = Run.open(searched).plan(best).layers()
    assert len(rows) == len(frame)
    for row, (_, expected) in zip(rows, frame.iterrows(), strict=True):
        words = row.split()
        assert words[:4] == [str(expected[name]) for name in ("layer", "component", "kept", "of")]
        assert words[-1] == f"{expected['share']:.1%}"


@pytest.mark.parametrize("more", [["--knee"], ["--budgets", "0.5x"], ["--budget", "kl<=1"]])
def test_a_plan_is_shown_alone(
    more: list[str], searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["front", str(searched), "--plan", "x", *more]) == 2
    said = f"`--plan` prints its answer and nothing else, got `{more[0]}` too"
    assert said in capsys.readouterr().err


def test_an_unknown_plan_is_told(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["front", str(searched), "--plan", "nosuchplan"]) == 2
    assert "`--plan` must be the id of a plan of this run" in capsys.readouterr().err


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
