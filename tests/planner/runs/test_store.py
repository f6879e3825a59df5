"""The database of a run, for those who read while a search writes."""

import json
import math
import random
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from planner.cli.main import main
from planner.run import Run
from planner.runs.metadata import RunMetadata
from planner.runs.records import SearchEffort
from planner.runs.tables.cells import text_of
from search_spaces.errors import RunError
from search_spaces.models.identity import ModelIdentity, SourceIdentity
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.plan import Plan
from tests.problems.toy_search import DENSE, SETTINGS, evaluation

FIRST, SECOND, THIRD = (3,) * 8, (2,) * 8, (1,) * 8
EVALUATIONS = 20_000
MOST_SECONDS = 2.0
"""Of processor time, for what takes about 0.8 seconds."""


def test_only_what_is_new_or_changed_is_read_again(tmp_path: Path) -> None:
    with Run.create(tmp_path, SETTINGS) as writer, Run.open(tmp_path) as reader:
        writer.record(evaluation(FIRST))
        writer.record(evaluation(SECOND))
        seen = max(e.revision for e in reader.landed())
        assert reader.landed(after=seen) == []
        writer.record(evaluation(THIRD))
        assert [e.genome for e in reader.landed(after=seen)] == [THIRD]
        # a plan that goes on to another rung is news, and keeps its place
        writer.record(evaluation(FIRST, seconds=2.0))
        writer.record_rescore(evaluation(SECOND).plan_id, "fresh", evaluation(SECOND).quality)
        assert [e.genome for e in reader.landed(after=seen)] == [FIRST, SECOND, THIRD]
        assert [e.genome for e in reader.landed()] == [FIRST, SECOND, THIRD]
        assert reader.landed()[0].score.seconds == 2.0


def test_an_evaluation_says_when_it_landed(tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    with Run.create(tmp_path, SETTINGS) as run:
        run.record(evaluation(FIRST))
        (landed,) = run.landed()
        assert landed.created_at is not None
        assert before <= landed.created_at <= datetime.now(UTC)
        run.record(evaluation(FIRST, seconds=2.0))
        (changed,) = run.landed()
    assert changed.created_at == landed.created_at


def test_two_readers_see_what_one_writer_writes(tmp_path: Path) -> None:
    genomes = [tuple(random.Random(n).choices(range(4), k=8)) for n in range(60)]
    genomes = list(dict.fromkeys(genomes))
    errors: list[BaseException] = []

    def read() -> None:
        try:
            with Run.open(tmp_path) as run:
                seen, count = 0, 0
                while count < len(genomes):
                    news = run.landed(after=seen)
                    seen = max([seen, *(e.revision for e in news)])
                    found = [e.genome for e in run.landed()]
                    assert found == genomes[: len(found)]
                    count = len(found)
                    assert run.status.state == "preparing"
                    assert run.front_plans() or not found
        except BaseException as error:  # noqa: BLE001  (raised below)
            errors.append(error)

    with Run.create(tmp_path, SETTINGS) as writer:
        writer.record_metadata(RunMetadata(dense=DENSE, cost_names=("params",)))
        readers = [Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for genome in genomes:
            writer.record(evaluation(genome))
        for reader in readers:
            reader.join(timeout=60)
    assert errors == []
    assert not any(reader.is_alive() for reader in readers)


def test_the_status_is_that_of_the_session(tmp_path: Path) -> None:
    with Run.create(tmp_path, SETTINGS) as run, Run.open(tmp_path) as reader:
        assert reader.status.state == "preparing"
        run.record_status("searching", "searching", 0.25, eta_seconds=8.0, tokens=30)
        status = reader.status
        assert (status.state, status.share, status.tokens) == ("searching", 0.25, 30)
        assert status.eta_seconds == 8.0
        assert status.started_at <= status.updated_at <= datetime.now(UTC)
        run.record_end(KeyboardInterrupt())
        stopped = reader.status
        assert (stopped.state, stopped.phase, stopped.failure) == ("stopped", "searching", "")
        assert (stopped.share, stopped.tokens, stopped.eta_seconds) == (0.25, 30, None)
    with Run.resume(tmp_path, SETTINGS) as run:
        run.record_status("searching", "it was refused before it began")
        run.record_end(RunError("it was refused before it began"))
        assert run.status == stopped
        run.begin_session()
        assert (str(run.status), run.status.tokens) == ("preparing", 30)
        assert run.status.started_at > status.started_at
        run.record_status("searching", "replaying", tokens=20)
        assert run.status.tokens == 30  # what was done stays done
        run.record_end(ZeroDivisionError("a defect"))
        assert str(run.status) == "failed: replaying: ZeroDivisionError"


def test_a_time_that_nobody_knows_is_none(tmp_path: Path) -> None:
    with Run.create(tmp_path, SETTINGS) as run:
        for eta_seconds in (1e10, math.inf, math.nan, None):
            run.record_status("searching", eta_seconds=eta_seconds)
            assert run.status.eta_seconds is None


def test_a_run_that_was_finished_stays_so_until_it_goes_further(tmp_path: Path) -> None:
    effort = SearchEffort(plans=2, tokens=30, seconds=0.5, choosing_seconds=0.25)
    with Run.create(tmp_path, SETTINGS) as run:
        run.record_finish(effort)
    with Run.resume(tmp_path, SETTINGS) as run:
        run.begin_session()
        run.record_status("preparing", "loading toy")  # and is killed
    assert Run.open(tmp_path).status.state == "finished"
    with Run.resume(tmp_path, SETTINGS) as run:
        run.begin_session()
        run.record_status("preparing", "loading toy")
        run.record_end(KeyboardInterrupt())
    with sqlite3.connect(tmp_path / "run.sqlite") as database:
        row = database.execute("select state, phase, share, tokens from status").fetchone()
    database.close()
    assert row == ("finished", "", 1.0, 30)
    with Run.resume(tmp_path, SETTINGS.model_copy(update={"evaluations": 500})) as run:
        run.begin_session()
        run.record_end(KeyboardInterrupt())
        assert run.status.state == "stopped"


def test_a_run_opened_at_one_moment_stays_as_it_was(tmp_path: Path) -> None:
    known = RunMetadata(dense=DENSE, smallest=DENSE, cost_names=("params",))
    with Run.create(tmp_path, SETTINGS) as writer:
        writer.record_metadata(known)
        writer.record(evaluation(SECOND))
        held, status = Run.open(tmp_path, live=False), writer.status
        writer.record(evaluation(FIRST))
        writer.record(evaluation(SECOND, seconds=2.0))
        writer.record_metadata(RunMetadata(text="a book"))
        writer.record_status("searching")
        assert (held.landed(), held.metadata, held.status) == (
            [evaluation(SECOND)],
            known,
            status,
        )
        assert held.find(FIRST) is None
        assert len(held.front()) == 1
        held.close()
        with Run.open(tmp_path) as live:
            assert len(live.landed()) == 2
            assert live.metadata.text == "a book"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("update status set state = 'dreaming'", "its status has 'dreaming' as its `state`"),
        ("update status set share = 1.5", "its status has 1.5 as its `share`"),
        ("update status set tokens = -1", "its status has -1 as its `tokens`"),
        ("update status set eta_seconds = 9e999", "its status has inf as its `eta_seconds`"),
        ("update status set eta_seconds = 1e300", "its status has 1e+300 as its `eta_seconds`"),
        ("update status set updated_at = 1", "its status has '1' as its `updated_at`"),
        ("update status set updated_at = '2026-01-01'", "as its `updated_at`"),
        ("update status set phase = x'00'", "as its `phase`"),
        ("update status set tokens = 1.5", "its status has 1.5 as its `tokens`"),
        ("update status set tokens = 'many'", "its status has 'many' as its `tokens`"),
        ("update status set updated_at = 'soon'", "its status has 'soon' as its `updated_at`"),
        ("update status set started_at = x'00'", "as its `started_at`"),
        ("delete from status", "it lacks its status"),
    ],
)
def test_a_status_of_no_search_is_named(tmp_path: Path, line: str, said: str) -> None:
    Run.create(tmp_path, SETTINGS).close()
    _execute(tmp_path, line)
    with Run.open(tmp_path) as run, pytest.raises(RunError) as raised:
        _ = run.status
    assert said in str(raised.value)
    assert len(str(raised.value).replace(str(tmp_path), "run")) <= 300
    with Run.resume(tmp_path, SETTINGS) as run:
        run.begin_session()
        assert run.status.state == "preparing"


def _plan() -> Plan:
    identity = ModelIdentity(architecture="A", fingerprint="abc", params=10)
    mlp = ComponentPlan(unit_count=8, kept="0-3,7")
    return Plan(model=identity, sites={"layers.0.mlp": mlp})


def test_a_plan_is_kept_in_whole(tmp_path: Path) -> None:
    plan = _plan()
    with Run.create(tmp_path, SETTINGS) as run:
        run.record_plans([plan])
        run.record_plans([plan])
        assert run.stored_plan("unknown") is None
    with Run.open(tmp_path) as reader:
        assert reader.stored_plan(plan.plan_id) == plan


OF_OTHER_UNITS = _plan().model_copy(update={"sites": {}}).to_json()
OF_ANOTHER_MODEL = _plan().to_json().replace('"architecture": "A"', '"architecture": "B"')


@pytest.mark.parametrize(
    ("json_text", "fault"),
    [
        *((text, "damaged") for text in ("", "{", "[]", "{}", '{"version": "9"}')),
        (OF_OTHER_UNITS, "damaged"),
        (OF_ANOTHER_MODEL, "damaged"),
        ('{"version": 9}', "of version 9"),
    ],
)
def test_a_damaged_plan_is_named(tmp_path: Path, json_text: str, fault: str) -> None:
    plan = _plan()
    with Run.create(tmp_path, SETTINGS) as run:
        model = SourceIdentity(**plan.model.model_dump(), checksum="abc")
        run.record_metadata(RunMetadata(model=model))
        run.record_plans([plan])
    with Run.open(tmp_path) as reader:
        assert reader.stored_plan(plan.plan_id) == plan
        _execute(tmp_path, f"update plans set json = '{json_text}'")
        with pytest.raises(RunError, match=f"plan {plan.plan_id} is {fault}; go on") as raised:
            reader.stored_plan(plan.plan_id)
    assert len(str(raised.value).replace(str(tmp_path), "run")) <= 300
    (command,) = raised.value.__notes__
    assert command.endswith("--resume")


def _execute(folder: Path, line: str) -> None:
    with sqlite3.connect(folder / "run.sqlite") as database:
        database.execute(line)
    database.close()


def test_the_front_of_a_long_run_is_there_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_long_run(tmp_path, EVALUATIONS)
    started = time.process_time()
    assert main(["front", str(tmp_path)]) == 0
    seconds = time.process_time() - started
    printed = capsys.readouterr().out
    assert printed.count("plan-") > 3
    assert "hypervolume" in printed
    assert seconds < MOST_SECONDS


def write_long_run(folder: Path, count: int, sites: int = 60, windows: int = 16) -> None:
    """Write a run of many plans, as a search of a large model leaves it, without its commits."""
    rng = np.random.default_rng(0)
    with Run.create(folder, SETTINGS) as run:
        run.record_metadata(RunMetadata(dense=DENSE, smallest=DENSE, cost_names=("params",)))
        run.record_status("searching", "searching", 0.5)
    levels = rng.integers(1, 9, (count, sites))
    shares = levels.mean(axis=1) / 8
    kls = rng.lognormal(sigma=0.3, size=(count, windows)) * (1.1 - shares[:, None])
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    heads, rows = [], []
    for number, (genome, share, by_window) in enumerate(zip(levels, shares, kls, strict=True)):
        costs = json.dumps({name: float(share) * value for name, value in DENSE.items()})
        head = number + 1, text_of(tuple(genome.tolist())), f"plan-{number}", number // 32
        heads.append((*head, 2048, 0.5, None, costs, now, number + 1))
        for metric, values in (
            ("kl", by_window),
            ("nll", 3 + by_window),
            ("agreement", by_window),
        ):
            blob = values.astype("<f8").tobytes()
            rows.append((number + 1, "", "search", metric, float(values.mean()), 0.01, blob))
    with sqlite3.connect(folder / "run.sqlite") as database:
        marks = ", ".join("?" * 10)
        database.executemany(f"insert into evaluations values ({marks})", heads)
        database.executemany("insert into measurements values (?, ?, ?, ?, ?, ?, ?)", rows)
    database.close()
