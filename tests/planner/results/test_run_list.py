"""The list of runs in a folder: all kinds of runs, and all that may be wrong with one."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from planner.results.run_list import RunEntry, list_runs
from planner.run import Run
from planner.runs.metadata import RunMetadata
from search_spaces.errors import RunError
from tests.problems.toy_run import write_toy_run
from tests.problems.toy_search import SETTINGS, evaluation


def by_path(folder: Path) -> dict[str, RunEntry]:
    return {entry.path.as_posix(): entry for entry in list_runs(folder)}


def test_runs_are_found_in_folders_inside_each_other(tmp_path: Path, searched: Path) -> None:
    shutil.copytree(searched, tmp_path / "finished")
    write_toy_run(tmp_path / "a" / "b" / "toy").close()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.txt").touch()
    found = by_path(tmp_path)
    assert sorted(found) == ["a/b/toy", "finished"]
    finished = found["finished"]
    with Run.open(searched) as run:
        best = run.best("params<=0.8x").plan_id
        assert finished.evaluations == len(run.landed())
    assert (finished.state, finished.budget, finished.fault) == ("finished", "params<=0.8x", "")
    assert finished.answer.startswith(f"plan {best}: ")
    toy = found["a/b/toy"]
    assert (toy.state, toy.model, toy.evaluations) == ("preparing", "toy", 6)


def test_a_run_is_a_list_of_itself(searched: Path) -> None:
    (entry,) = list_runs(searched)
    assert entry.path.as_posix() == "."


def test_the_runs_of_a_comparison_are_listed_with_it(tmp_path: Path) -> None:
    with Run.create(tmp_path / "all", SETTINGS) as shared:
        shared.record_metadata(RunMetadata(recipes=("one", "two")))
    write_toy_run(tmp_path / "all" / "one").close()
    found = by_path(tmp_path)
    assert sorted(found) == ["all", "all/one"]
    assert found["all"].recipes == ("one", "two")
    assert found["all"].answer == ""


def test_a_run_that_has_not_scored_says_so(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", SETTINGS).close()
    assert by_path(tmp_path)["run"].answer == "no plan is scored yet"


def test_a_run_is_read_again_when_it_changed(tmp_path: Path) -> None:
    run = write_toy_run(tmp_path / "run")
    assert by_path(tmp_path)["run"].evaluations == 6
    run.record(evaluation((3, 3, 3, 3, 3, 3, 3, 1)))
    assert by_path(tmp_path)["run"].evaluations == 7
    run.close()


def _no_database(run: Path) -> None:
    (run / "run.sqlite").write_bytes(b"")


def _foreign(run: Path) -> None:
    (run / "run.sqlite").write_bytes(b"no database at all, and long enough to look like one" * 9)


def _old(run: Path) -> None:
    with sqlite3.connect(run / "run.sqlite") as database:
        database.execute("update meta set value = '1' where key = 'schema_version'")
    database.close()


def _bad_settings(run: Path) -> None:
    (run / "settings.yaml").write_bytes(b"\xff\xfe: [")


def _no_settings(run: Path) -> None:
    (run / "settings.yaml").unlink()


def _link(run: Path) -> None:
    (run / "run.sqlite").rename(run.parent / "elsewhere")
    (run / "run.sqlite").symlink_to(run.parent / "elsewhere")


def _damaged_row(run: Path) -> None:
    with sqlite3.connect(run / "run.sqlite") as database:
        database.execute("update evaluations set genome = 'x'")
    database.close()


@pytest.mark.parametrize(
    "harm", [_no_database, _foreign, _old, _bad_settings, _no_settings, _link, _damaged_row]
)
def test_a_broken_run_has_its_fault_and_hides_no_other(harm: object, tmp_path: Path) -> None:
    assert callable(harm)
    write_toy_run(tmp_path / "broken").close()
    write_toy_run(tmp_path / "sound").close()
    harm(tmp_path / "broken")
    found = by_path(tmp_path)
    assert sorted(found) == ["broken", "sound"]
    assert found["sound"].fault == ""
    assert found["broken"].state is None
    assert "; " in found["broken"].fault


def test_no_link_is_followed(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    write_toy_run(outside / "run").close()
    folder.mkdir()
    (folder / "link").symlink_to(outside, target_is_directory=True)
    (folder / "run").symlink_to(outside / "run", target_is_directory=True)
    assert list_runs(folder) == []


def test_a_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="must be a folder with runs in it"):
        list_runs(tmp_path / "none")


def test_a_folder_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system says of it; whoever may do anything can read all folders."""
    monkeypatch.setattr("planner.results.run_list.os.access", lambda path, mode: False)
    with pytest.raises(RunError, match="must be a folder that you may read"):
        list_runs(tmp_path)


def test_plans_are_counted_where_nobody_asks_for_answers(tmp_path: Path) -> None:
    write_toy_run(tmp_path / "run").close()
    (entry,) = list_runs(tmp_path, answers=False)
    assert (entry.evaluations, entry.answer) == (6, "")
    (entry,) = list_runs(tmp_path)
    assert entry.answer
