"""A database whose rows are none that a search writes is refused, and the row is named."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evaluators.metric import Measurement
from planner.run import Run
from planner.runs.metadata import RunMetadata
from planner.runs.records import RoundReply, SearchEffort
from planner.runs.tables.cells import text_of
from search_spaces.errors import OutputError, RunError
from tests.problems.toy_search import DENSE, SETTINGS, evaluation, rescored, score_of

GENOME = (3,) * 8
FRESH = rescored(0.5) | {"cosine": Measurement(value=-0.5)}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two plans, with all that a search stores."""
    folder = tmp_path_factory.mktemp("sound") / "run"
    with Run.create(folder, SETTINGS) as run:
        run.record_metadata(RunMetadata(dense=DENSE, smallest=DENSE, cost_names=("params",)))
        run.record(evaluation(GENOME))
        run.record(replace(evaluation((2,) * 8), fresh=FRESH, holdout=FRESH))
        run.record_metadata(RunMetadata(baselines={"uniform": evaluation(GENOME).plan_id}))
        values = evaluation(GENOME).score.by_window["kl"]
        run.record_reply(0, GENOME, RoundReply(values=values, tokens=3, seconds=0.5))
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "run"))


def _read(folder: Path) -> None:
    with Run.open(folder) as run:
        run.front()
        run.answers(["0.5x"])
        run.baselines()
        run.replies()
        assert run.cost_names
        assert run.smallest


def _change(folder: Path, *lines: str) -> None:
    with sqlite3.connect(folder / "run.sqlite") as database:
        for line in lines:
            database.execute(line)
    database.close()


def _refused(folder: Path) -> str:
    with pytest.raises(RunError, match=r"run\.sqlite") as raised:
        _read(folder)
    message = str(raised.value)
    assert len(message.replace(str(folder), "run")) <= 300
    return message


ONE = "where id = 2"
KL = "where evaluation_id = 2 and split = 'search' and metric = 'kl'"


def test_a_sound_run_is_read(folder: Path) -> None:
    _read(folder)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"update evaluations set genome = 'a,b' {ONE}", "evaluation 2 has no genome"),
        (f"update evaluations set genome = '-1,2' {ONE}", "evaluation 2 has no genome"),
        (f"update evaluations set genome = '' {ONE}", "evaluation 2 has no genome"),
        (f"update evaluations set genome = x'00ff' {ONE}", "evaluation 2 has no genome"),
        (f"update evaluations set genome = '1,2,3' {ONE}", "has a genome of 3 levels"),
        ("update evaluations set genome = '3,3,3,3,3,3,3,3'", "has the genome of evaluation 1"),
        (f"update evaluations set plan_id = '' {ONE}", "evaluation 2 has no plan id"),
        (f"update evaluations set plan_id = x'00' {ONE}", "evaluation 2 has no plan id"),
        (f"update evaluations set round = 'one' {ONE}", "evaluation 2 has no round"),
        (f"update evaluations set round = -7 {ONE}", "evaluation 2 has no round"),
        (f"update evaluations set tokens = 'many' {ONE}", "impossible tokens"),
        (f"update evaluations set tokens = -1 {ONE}", "impossible tokens"),
        (f"update evaluations set seconds = 9e999 {ONE}", "impossible tokens or seconds"),
        (f"update evaluations set seconds = 'long' {ONE}", "impossible tokens or seconds"),
        (f"update evaluations set failure = x'00' {ONE}", "no reason for its failure"),
        (f"update measurements set value = 'much' {KL}", "evaluation 2 has no number as its kl"),
        (f"update measurements set value = x'00' {KL}", "evaluation 2 has no number as its kl"),
        (f"update measurements set value = null {KL}", "evaluation 2 has no finite kl"),
        (f"update measurements set value = 9e999 {KL}", "evaluation 2 has no finite kl"),
        (f"update measurements set value = value / 2 {KL}", "not the mean of its windows"),
        (f"update measurements set standard_error = -1 {KL}", "a negative error of kl"),
        (f"update measurements set standard_error = 'big' {KL}", "no number as its kl"),
        (f"update measurements set by_window = x'010203' {KL}", "has no windows of kl"),
        (f"update measurements set by_window = 'text' {KL}", "has no windows of kl"),
        (f"update measurements set by_window = x'' {KL}", "has no windows of kl"),
        (f"update measurements set by_window = null {KL}", "has no finite kl"),
        (f"update measurements set by_window = zeroblob(64) {KL}", "not the mean of its windows"),
        (f"update measurements set metric = 'parms' {KL}", "has an unknown score `parms`"),
        (f"update measurements set metric = 'size' {KL}", "has an unknown score `size`"),
        (f"delete from measurements {KL}", "evaluation 2 lacks its kl"),
        ("delete from measurements where metric = 'kl'", "evaluation 1 lacks its kl"),
        ("delete from measurements where metric = 'nll'", "evaluation 1 lacks its nll"),
        ("delete from measurements where metric = 'nll' and split = 'holdout'", "2 lacks its nll"),
        ("update measurements set value = -2 where metric = 'cosine'", "2 has a cosine below"),
        ("update evaluations set costs = '{}'", "evaluation 1 lacks its params"),
        (f"update evaluations set costs = '[1]' {ONE}", "evaluation 2 has no costs"),
        (f"update evaluations set costs = '{{\"params\": 1' {ONE}", "evaluation 2 has no costs"),
        (f"update evaluations set costs = x'00ff' {ONE}", "evaluation 2 has no costs"),
        (f"update evaluations set costs = '{{\"kl\": 1.0}}' {ONE}", "2 has an unknown cost `kl`"),
        (f"update evaluations set costs = '{{\"kv\": NaN}}' {ONE}", "2 has no finite kv"),
        (f"update evaluations set costs = '{{\"kv\": [1]}}' {ONE}", "2 has no finite kv"),
        (f"update evaluations set costs = '{{\"kv\": -9.0}}' {ONE}", "2 has a kv below its least"),
        (f"update evaluations set created_at = 'once' {ONE}", "evaluation 2 has no time"),
        (f"update evaluations set created_at = '2026-01-01' {ONE}", "evaluation 2 has no time"),
        (f"update evaluations set created_at = x'00' {ONE}", "evaluation 2 has no time"),
        (f"update evaluations set revision = 'x' {ONE}", "evaluation 2 has no revision"),
        ("delete from measurements where evaluation_id = 2", "evaluation 2 lacks its"),
        ("delete from measurements where split = 'fresh' and metric = 'kl'", "2 lacks its kl"),
        ("update measurements set value = -0.5 where split = 'fresh'", "2 has a kl below its"),
        (f"delete from evaluations {ONE}", "evaluation 2 has scores and is missing"),
        ("update measurements set evaluation_id = 'x' where split = 'fresh'", "evaluation x has"),
        ("update meta set value = 'no json' where key = 'cost_names'", "its entry `cost_names`"),
        ("update meta set value = x'00ff' where key = 'cost_names'", "its entry `cost_names`"),
        ("insert into meta values ('x', '7')", "its entry `x` is none that a search writes"),
        ("update meta set value = 'null' where key = 'dense'", "its entry `dense`"),
        ("update meta set value = '[]' where key = 'cost_names'", "its entry `cost_names`"),
        ("update meta set value = '[\"x\"]' where key = 'cost_names'", "its entry `cost_names`"),
        ("update meta set value = '\"params\"' where key = 'cost_names'", "entry `cost_names`"),
        ("update meta set value = '{\"params\": NaN}' where key = 'dense'", "its entry `dense`"),
        ("update meta set value = '{\"params\": -1}' where key = 'dense'", "its entry `dense`"),
        ("update meta set value = '[1]' where key = 'dense'", "its entry `dense`"),
        ("update meta set value = '{}' where key = 'dense'", "its entry `dense` lacks bits"),
        ("update meta set value = '{\"kv\": 5}' where key = 'dense'", "`dense` lacks bits"),
        ("update meta set value = '{}' where key = 'smallest'", "its entry `smallest` lacks bits"),
        ("update meta set value = '{\"uniform\": \"f\"}' where key = 'baselines'", "lacks plan f"),
        ("update meta set value = '7' where key = 'baselines'", "its entry `baselines`"),
        ("update meta set value = '\"three\"' where key = 'schema_version'", "`schema_version`"),
        ("delete from meta where key = 'schema_version'", "lacks its entry `schema_version`"),
        ("update replies set told = x'01'", "a reply has no numbers"),
        ("update replies set genome = 'x'", "a reply has values that are out of range"),
        ("drop table measurements", "it lacks its table `measurements`"),
        ("alter table evaluations rename column plan_id to plan", "its tables cannot be read"),
    ],
)
def test_a_damaged_row_is_named(folder: Path, line: str, said: str) -> None:
    _change(folder, line)
    assert said in _refused(folder)


@pytest.mark.parametrize("top_levels", [[3] * 7, [3] * 9, [3, 3, 3, 2, 3, 3, 3, 3]])
def test_a_plan_that_is_not_in_the_space_is_named(folder: Path, top_levels: list[int]) -> None:
    with Run.open(folder) as run:
        run.check_genomes([3] * 8)
        with pytest.raises(RunError, match="is none of its search space"):
            run.check_genomes(top_levels)


def test_another_order_of_units_is_named(folder: Path) -> None:
    with Run.resume(folder, SETTINGS) as run:
        run.check_order("abc")
        run.check_order("abc")
        with pytest.raises(RunError, match=r"ranking\.npz changed since the search"):
            run.check_order("abd")


def test_what_a_finished_search_took_is_read_whole_or_missed(folder: Path) -> None:
    effort = SearchEffort(plans=2, tokens=3, seconds=0.5, choosing_seconds=0.25)
    with Run.resume(folder, SETTINGS) as run:
        with pytest.raises(RunError, match="must hold a search that has begun to score"):
            _ = run.spent
        run.record_finish(effort)
        assert run.spent == effort
    _change(folder, "update meta set value = '{\"plans\": 2}' where key = 'spent'")
    with Run.open(folder) as read, pytest.raises(RunError, match="its entry `spent`"):
        _ = read.spent


def test_an_evaluation_is_not_written_over_two_of_its_genome(folder: Path) -> None:
    _change(folder, f"update evaluations set genome = '{text_of(GENOME)}'")
    with (
        Run.resume(folder, SETTINGS) as run,
        pytest.raises(RunError, match="2 evaluations have the genome 3,3"),
    ):
        run.record(evaluation(GENOME))


@pytest.mark.parametrize("key", ["dense", "smallest", "cost_names"])
def test_what_a_search_stores_before_it_scores_is_missed(folder: Path, key: str) -> None:
    _change(folder, f"delete from meta where key = '{key}'")
    with pytest.raises(RunError, match="must hold a search that has begun to score"):
        _read(folder)


def test_a_plan_that_failed_may_hold_what_is_no_number(tmp_path: Path) -> None:
    score = score_of({"kl": (float("nan"), 0.0)}, failure="its logits hold NaN")
    with Run.create(tmp_path, SETTINGS) as run:
        run.record(replace(evaluation(GENOME), score=score))
        run.record(evaluation((2,) * 8))
        assert [e.score.failure is None for e in run.landed()] == [False, True]


def test_rounding_below_zero_is_no_damage(folder: Path) -> None:
    _change(folder, "update measurements set value = -1e-9 where split = 'fresh'")
    _read(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"no database" * 999, b"SQLite format 3\0" + b"\xff" * 5000],
)
def test_a_file_that_is_no_database(folder: Path, content: bytes) -> None:
    (folder / "run.sqlite").write_bytes(content)
    _refused(folder)


def test_a_database_that_was_cut_off(folder: Path) -> None:
    path = folder / "run.sqlite"
    whole = path.read_bytes()
    for size in (100, len(whole) // 3, len(whole) - 5000):
        path.write_bytes(whole[:size])
        _refused(folder)


def test_the_database_of_another_program(folder: Path) -> None:
    (folder / "run.sqlite").unlink()
    _change(folder, "create table notes (text)")
    before = (folder / "run.sqlite").read_bytes()
    assert "lacks its table" in _refused(folder)
    with pytest.raises(RunError, match="lacks its table"):
        Run.resume(folder, SETTINGS)
    assert (folder / "run.sqlite").read_bytes()[100:] == before[100:]


@pytest.mark.parametrize("content", [None, b""])
def test_a_lost_database_is_not_begun_again(folder: Path, content: bytes | None) -> None:
    path = folder / "run.sqlite"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    (folder / "calibration.npz").write_text("tokens")
    with pytest.raises(RunError, match=r"run\.sqlite` must hold what was scored"):
        Run.resume(folder, SETTINGS)
    assert path.exists() == (content is not None)


def test_a_run_that_was_killed_before_its_tables_were_made_is_begun(tmp_path: Path) -> None:
    Run.create(tmp_path, SETTINGS).close()
    (tmp_path / "run.sqlite").write_bytes(b"")
    with Run.resume(tmp_path, SETTINGS) as run:
        run.record(evaluation(GENOME))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{"timeout": 0.01, **k}))


@pytest.fixture
def holder(folder: Path) -> Iterator[sqlite3.Connection]:
    """Another program that holds the database."""
    connection = sqlite3.connect(folder / "run.sqlite", isolation_level=None)
    connection.execute("begin exclusive")
    yield connection
    connection.close()


@pytest.mark.usefixtures("impatient")
def test_a_locked_database_is_called_that(folder: Path, holder: sqlite3.Connection) -> None:
    for opening in (Run.open, lambda f: Run.resume(f, SETTINGS)):
        with pytest.raises(RunError, match="another program holds a lock on it; wait for"):
            opening(folder)
    holder.rollback()
    _read(folder)


def test_a_folder_that_cannot_be_written_can_be_read(folder: Path) -> None:
    """Also one whose search was killed, with its log beside the database."""
    running = Run.resume(folder, SETTINGS)
    running.record(evaluation((1,) * 8))
    killed = Path(shutil.copytree(folder, folder.with_name("killed")))
    running.close()
    for place in (folder, killed):
        for path in [*place.iterdir(), place]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            with Run.open(place) as run:
                assert len(run.landed()) == 3
        finally:
            place.chmod(0o755)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_database_that_may_not_be_opened(folder: Path) -> None:
    (folder / "run.sqlite").chmod(0)
    with pytest.raises((RunError, OutputError), match="permission"):
        Run.open(folder)
