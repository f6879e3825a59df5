import json
import math
import os
import resource
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluators.metric import Measurement
from planner.run import Run
from planner.runs.metadata import RunMetadata
from search_spaces.atomic_files import temporary_path
from search_spaces.errors import OutputError, RunError
from tests.problems.toy_search import SETTINGS, evaluation, rescored, score_of

GENOME = (3, 3, 3, 3, 3, 3, 3, 3)
OTHER = (0, 1, 2, 3, 0, 1, 2, 3)


def test_a_run_gives_back_what_was_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    first, second = evaluation(OTHER, seconds=1.5), evaluation(GENOME)
    with Run.create(folder, SETTINGS) as run:
        run.record(first)
        run.record(second)
        run.record_metadata(RunMetadata(dense={"params": 10.0}))
        run.record_metadata(RunMetadata(text="a book"))
    with Run.open(folder) as run:
        assert run.landed() == [first, second]
        assert run.find(GENOME) == second
        assert run.find((1,) * 8) is None
        assert run.metadata == RunMetadata(dense={"params": 10.0}, text="a book")
        assert run.settings == SETTINGS
    assert json.loads((folder / "environment.json").read_text())["seed"] == SETTINGS.seed


def test_a_path_that_the_database_cannot_have_is_told_before_a_folder_is_made(
    tmp_path: Path,
) -> None:
    folder = tmp_path
    while len(str(folder)) <= 440:
        folder /= "x" * 100
    with pytest.raises(RunError, match=r"at most 440 bytes long, .* choose a shorter --out"):
        Run.create(folder, SETTINGS)
    assert list(tmp_path.iterdir()) == []
    longest = Path(str(folder)[:440].rstrip("/"))
    Run.create(longest, SETTINGS).close()
    with Run.open(longest) as run:
        assert run.landed() == []


def test_what_is_not_a_number_stays_so(tmp_path: Path) -> None:
    broken = replace(
        evaluation(OTHER),
        score=score_of({"kl": (math.nan, 0.0), "nll": (math.inf, 0.0)}, failure="broken"),
    )
    with Run.create(tmp_path, SETTINGS) as run:
        run.record(broken)
        (found,) = run.landed()
    assert math.isnan(found.quality["kl"].value)
    assert found.quality["nll"].value == math.inf


def test_scores_on_other_splits_join_their_plan(tmp_path: Path) -> None:
    fresh, holdout = rescored(0.5, 0.1), rescored(0.7, 0.2)
    plan_id = evaluation(OTHER).plan_id
    with Run.create(tmp_path, SETTINGS) as run:
        run.record(evaluation(OTHER))
        run.record_rescore(plan_id, "holdout", {"kl": Measurement(value=9.0)})
        run.record_rescore(plan_id, "fresh", fresh)
        run.record_rescore(plan_id, "holdout", holdout)
        assert run.landed() == [replace(evaluation(OTHER), fresh=fresh, holdout=holdout)]
        with pytest.raises(RunError, match="'unknown'"):
            run.record_rescore("unknown", "fresh", fresh)


def test_what_each_window_scored_is_stored_on_every_split(tmp_path: Path) -> None:
    by_window = (0.1, 0.7, math.inf)
    kl = Measurement(value=math.inf, standard_error=math.nan, by_window=by_window)
    scores = rescored(math.inf) | {"kl": kl}
    with Run.create(tmp_path, SETTINGS) as run:
        run.record(evaluation(OTHER))
        run.record_rescore(evaluation(OTHER).plan_id, "holdout", scores)
        (found,) = run.landed()
    assert found.holdout["kl"].by_window == by_window
    searched = evaluation(OTHER).score.by_window["kl"]
    assert found.quality["kl"].by_window == tuple(searched)


def test_an_evaluation_is_written_with_all_its_splits(tmp_path: Path) -> None:
    scores = rescored(0.5, 0.1)
    holdout = {**scores, "cosine": Measurement(value=0.9)}
    whole = replace(evaluation(OTHER), fresh=scores, holdout=holdout)
    with Run.create(tmp_path, SETTINGS) as run:
        run.record(whole)
        assert run.landed() == [whole]


def test_an_evaluation_lands_whole_or_not_at_all(tmp_path: Path) -> None:
    unstorable: Any = object()
    broken = replace(evaluation(OTHER), holdout={"kl": Measurement(value=unstorable)})
    with Run.create(tmp_path, SETTINGS) as run:
        with pytest.raises(sqlite3.Error):
            run.record(broken)
        assert run.landed() == []


def test_a_second_process_is_refused_while_the_run_is_in_use(tmp_path: Path) -> None:
    with (
        Run.create(tmp_path, SETTINGS),
        pytest.raises(RunError, match="one process at a time"),
    ):
        Run.resume(tmp_path, SETTINGS)
    Run.resume(tmp_path, SETTINGS).close()


def test_a_run_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    with Run.create(tmp_path, SETTINGS) as writer, Run.open(tmp_path) as reader:
        assert reader.landed() == []
        writer.record(evaluation(OTHER))
        assert reader.landed() == [evaluation(OTHER)]
    with Run.open(tmp_path) as reader:
        assert len(reader.landed()) == 1


def test_a_closed_run_leaves_no_log_that_a_reader_would_have_to_write(tmp_path: Path) -> None:
    with Run.create(tmp_path, SETTINGS) as run:
        run.record(evaluation(OTHER))
    names = {path.name for path in tmp_path.iterdir()} - {"run.lock"}
    assert names == {"settings.yaml", "environment.json", "run.sqlite"}


def test_resuming_keeps_what_is_there_and_may_go_further(tmp_path: Path) -> None:
    with Run.create(tmp_path, SETTINGS) as run:
        run.record(evaluation(OTHER))
    further = SETTINGS.model_copy(update={"evaluations": 500})
    with Run.resume(tmp_path, further) as run:
        assert run.landed() == [evaluation(OTHER)]
        assert Run.open(tmp_path).settings == SETTINGS  # until its model is known to be the same
        run.keep_settings()
    with Run.open(tmp_path) as run:
        assert run.settings.evaluations == 500


def test_resuming_makes_what_a_kill_left_out_and_removes_what_it_left(tmp_path: Path) -> None:
    Run.create(tmp_path, SETTINGS).close()
    (tmp_path / "environment.json").unlink()
    (tmp_path / "levels" / "layers.0.mlp").mkdir(parents=True)
    names = ("settings.yaml", "front.csv", "front.png", "levels/layers.0.mlp/16.safetensors")
    dead = [temporary_path(tmp_path / name, 4194303) for name in names]
    living = temporary_path(tmp_path / "front.csv", os.getppid())
    foreign = temporary_path(tmp_path / "notes.txt", 4194303)
    for path in [*dead, living, foreign]:
        path.write_text("half")
    Run.resume(tmp_path, SETTINGS).close()
    assert json.loads((tmp_path / "environment.json").read_text())["seed"] == SETTINGS.seed
    assert set(tmp_path.rglob(".*")) == {living, foreign}


def test_resuming_with_other_settings_names_them(tmp_path: Path) -> None:
    Run.create(tmp_path, SETTINGS).close()
    with pytest.raises(RunError, match="`seed` was 3, now 4"):
        Run.resume(tmp_path, SETTINGS.model_copy(update={"seed": 4}))


def test_a_run_killed_before_its_database_was_made_is_resumed(tmp_path: Path) -> None:
    SETTINGS.save(tmp_path)
    with pytest.raises(RunError, match="--resume"):
        Run.open(tmp_path)
    with Run.resume(tmp_path, SETTINGS) as run:
        assert run.landed() == []


def test_a_folder_with_a_run_is_not_written_over(tmp_path: Path) -> None:
    Run.create(tmp_path, SETTINGS).close()
    with pytest.raises(RunError, match="--resume or choose another --out"):
        Run.create(tmp_path, SETTINGS)


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunError, match=r"thesis\.tex"):
        Run.create(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_process_left_that_died_at_once_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "run.lock").write_text("")
    temporary_path(tmp_path / "settings.yaml", 123).write_text("ver")
    Run.create(tmp_path, SETTINGS).close()


def test_a_file_is_no_place_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="not a file"):
        Run.create(tmp_path / "file", SETTINGS)
    with pytest.raises(OutputError, match="parents are folders"):
        Run.create(tmp_path / "file" / "run", SETTINGS)


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_what_is_no_run_cannot_be_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="--out of a search"):
        Run.open(tmp_path / name)
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize("left", [[], ["run.lock"], ["settings.yaml", "run.lock"]])
def test_resuming_what_was_killed_before_it_wrote_anything_begins_it(
    tmp_path: Path, left: list[str], notices: list[str]
) -> None:
    for name in left:
        path = tmp_path / name
        path = temporary_path(path, 4194303) if name == "settings.yaml" else path
        path.write_text("half")
    with Run.resume(tmp_path, SETTINGS) as run:
        assert run.landed() == []
    assert "the run begins" in notices[0]
    assert not list(tmp_path.glob(".*"))


def test_resuming_a_folder_that_does_not_exist_begins_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="typo` must be the folder of a run, and it does not exist"):
        Run.resume(tmp_path / "typo", SETTINGS)
    assert not list(tmp_path.iterdir())


def test_resuming_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="--out of a search"):
        Run.resume(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_may_be_given_as_text(tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    Run.create(folder, SETTINGS).close()
    Run.resume(folder, SETTINGS).close()
    with Run.open(folder) as run:
        assert run.folder == tmp_path / "run"


def test_a_corrupt_database_is_named(tmp_path: Path) -> None:
    Run.create(tmp_path, SETTINGS).close()
    (tmp_path / "run.sqlite").write_bytes(b"not a database" * 1000)
    for opening in (Run.open, lambda folder: Run.resume(folder, SETTINGS)):
        with pytest.raises(RunError, match="must hold the database of a run"):
            opening(tmp_path)


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    Run.create(tmp_path, SETTINGS).close()
    _execute(tmp_path, "update meta set value = '99' where key = 'schema_version'")
    for opening in (Run.open, lambda folder: Run.resume(folder, SETTINGS)):
        with pytest.raises(RunError, match="must be of version 7, got 99; use the planner that"):
            opening(tmp_path)


def test_a_database_of_before_is_refused_by_its_version(tmp_path: Path) -> None:
    """Not by the tables that it lacks."""
    Run.create(tmp_path, SETTINGS).close()
    _execute(
        tmp_path,
        "update meta set value = '3' where key = 'schema_version'",
        "drop table status",
        "drop table plans",
    )
    before = (tmp_path / "run.sqlite").read_bytes()
    for opening in (Run.open, lambda folder: Run.resume(folder, SETTINGS)):
        with pytest.raises(RunError, match="must be of version 7, got 3; use the planner that"):
            opening(tmp_path)
    assert (tmp_path / "run.sqlite").read_bytes()[100:] == before[100:]


def _execute(folder: Path, *lines: str) -> None:
    with sqlite3.connect(folder / "run.sqlite") as database:
        for line in lines:
            database.execute(line)
    database.close()


def test_unreadable_settings_make_no_run(tmp_path: Path) -> None:
    Run.create(tmp_path, SETTINGS).close()
    (tmp_path / "settings.yaml").write_text("version: 9")
    with pytest.raises(RunError, match="got '9'"):
        Run.open(tmp_path)


def test_a_full_disk_loses_nothing_that_was_recorded(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Run.create(tmp_path, SETTINGS) as run:
        run.record(evaluation(OTHER))
        size = (tmp_path / "run.sqlite-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            with pytest.raises(OutputError, match="--resume"):
                run.record(evaluation(GENOME))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with Run.open(tmp_path) as run:
        assert run.landed() == [evaluation(OTHER)]
