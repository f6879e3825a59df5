"""Runs are read live, by many visitors, and a broken one takes nothing down."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from planner.browse import run_shelf
from planner.browse.run_shelf import RunShelf
from planner.run import Run
from planner.runs.run_store import RunStore
from planner.runs.store import Store
from search_spaces.errors import InputError, RunError


@pytest.fixture
def own(searched: Path, tmp_path: Path) -> Iterator[RunShelf]:
    shutil.copytree(searched, tmp_path / "run")
    shelf = RunShelf(tmp_path)
    yield shelf
    shelf.close()


def test_runs_are_listed_and_read(shelf: RunShelf, searched: Path) -> None:
    assert [entry.path.as_posix() for entry in shelf.entries()] == ["first", "inner/second"]
    look = shelf.look("inner/second")
    with Run.open(searched) as run:
        assert look.points is not None
        assert set(look.points.frame["plan_id"]) == {e.plan_id for e in run.landed()}
        assert look.status == run.status
    assert look.name == look.points.name == "inner/second"


def test_visitors_on_many_threads_are_answered(shelf: RunShelf) -> None:
    with ThreadPoolExecutor(4) as visitors:
        looks = list(visitors.map(shelf.look, ["first", "inner/second"] * 8))
    assert len({id(look.points) for look in looks}) == 2  # read once each


def test_what_lands_is_seen_and_the_rest_is_kept(own: RunShelf) -> None:
    before = own.look("run")
    assert before.points is not None
    with Run.open(own.folder / "run") as run:
        known = run.landed()[0]
    store = Store.open(own.folder / "run" / "run.sqlite")
    store.record(replace(known, genome=(*known.genome[:-1], 0), plan_id="new"))
    store.close()
    after = own.look("run")
    assert after.points is not None
    assert set(after.points.frame["plan_id"]) - set(before.points.frame["plan_id"]) == {"new"}
    assert after.revision != before.revision
    assert own.look("run").points is after.points


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "run.sqlite").write_bytes(b"half written"),
        lambda folder: (folder / "run.sqlite").unlink(),
        lambda folder: (folder / "settings.yaml").write_text("model: ["),
        shutil.rmtree,
    ],
    ids=["damaged", "lost", "settings", "gone"],
)
def test_a_broken_run_says_so(own: RunShelf, harm: "object") -> None:
    assert own.look("run").note == ""
    assert callable(harm)
    harm(own.folder / "run")
    look = RunShelf(own.folder).look("run")
    assert look.status is None
    assert look.points is None
    assert len(look.note) > 20
    with pytest.raises(InputError):
        RunShelf(own.folder).ask(lambda run: run.dense, "run")


def test_another_run_in_its_place_is_read(own: RunShelf) -> None:
    assert own.look("run").points is not None
    shutil.move(own.folder / "run", own.folder / "old")
    assert own.look("run").status is None
    shutil.copytree(own.folder / "old", own.folder / "run")
    assert own.look("run").points is not None


def test_no_name_leads_out(own: RunShelf, tmp_path: Path) -> None:
    assert "must lie inside" in own.look("../run").note
    with pytest.raises(RunError, match="must lie inside"):
        own.ask(lambda run: run.folder, str(tmp_path / "run"))


@pytest.mark.parametrize("name", ["run.sqlite", "settings.yaml", "space.json"])
def test_a_link_in_a_run_is_not_followed(own: RunShelf, searched: Path, name: str) -> None:
    file = own.folder / "run" / name
    file.unlink()
    file.symlink_to(searched / name)
    assert "got a link" in own.look("run").note
    assert "got a link" in own.entries()[0].fault


def test_a_name_that_no_file_has_is_refused(own: RunShelf) -> None:
    with pytest.raises(RunError, match="must be a run that can be read"):
        own.ask(lambda run: run.folder, "n" * 300)


def test_runs_that_nobody_looks_at_are_closed(
    shelf: RunShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[RunStore] = []
    close = RunStore.close

    def note(run: RunStore) -> None:
        closed.append(run)
        close(run)

    monkeypatch.setattr(RunStore, "close", note)
    monkeypatch.setattr(run_shelf, "_MOST_OPEN", 1)
    shelf.look("first")
    shelf.look("inner/second")
    assert [run.folder.name for run in closed] == ["first"]
    monkeypatch.setattr(run_shelf, "_MOST_OPEN", 2)
    shelf.look("first")
    assert len(closed) == 1
    monkeypatch.setattr(run_shelf, "_IDLE_SECONDS", -1.0)
    assert shelf.look("first").points is not None  # the one that is asked for stays
    assert [run.folder.name for run in closed] == ["first", "second"]


def test_a_folder_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="must be a folder"):
        RunShelf(tmp_path / "missing").entries()
