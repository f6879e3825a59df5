"""The demo replaces what a demo wrote, and says at once what it cannot use."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from planner.cli.main import main
from planner.export.cards.manifest import describe_files
from planner.reports.demo_folders import check_evidence, clear_earlier, keep_evidence
from planner.run import Run
from planner.runs.folder import sort_out
from planner.runs.lock import lock_folder
from search_spaces.errors import OutputError, RunError
from tests.planner.cli.commands import refused
from tests.problems.toy_search import SETTINGS, evaluation


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """The folder of a demo: a run that is marked, its figures, its export, and another run."""
    out = tmp_path / "demo"
    with Run.create(out, SETTINGS, is_demo=True) as run:
        run.record(evaluation((3,) * 8))
    (out / "front.json").write_text("{}")
    _export(out / "model")
    Run.create(out / "small", SETTINGS, is_demo=True).close()
    _export(out / "small" / "model")
    return out


def _export(folder: Path) -> None:
    (folder / "tokenizer").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer/vocab.txt"):
        (folder / name).write_text(name)
    files = {name: file.model_dump() for name, file in describe_files(folder).items()}
    (folder / "README.md").write_text("card")
    (folder / "manifest.json").write_text(json.dumps({"files": files}))


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_an_earlier_demo_is_replaced(demo: Path) -> None:
    clear_earlier(demo)
    assert _names(demo) == set()
    Run.create(demo, SETTINGS, is_demo=True).close()


@pytest.mark.parametrize("kept", [[], ["run.lock"], [".planner-demo"]])
def test_a_free_folder_is_free(tmp_path: Path, kept: list[str]) -> None:
    clear_earlier(tmp_path / "new")
    for name in kept:
        (tmp_path / name).touch()
    clear_earlier(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("notes.txt", "export/config.json", "levels/notes.txt", "model/notes.txt"),
        *("model/mine/adapter.safetensors", "statistics/layer-1.txt", ".model.abcdefgh.scratch/a"),
        *("small/notes.txt", "small/model/notes.txt"),
    ],
)
def test_whatever_else_lies_there_stops_it_before_anything_is_deleted(
    demo: Path, name: str
) -> None:
    (demo / name).parent.mkdir(parents=True, exist_ok=True)
    (demo / name).write_text("mine")
    before = _names(demo)
    with pytest.raises(OutputError, match="`--out` must be free or hold an earlier demo"):
        clear_earlier(demo)
    assert _names(demo) == before


def test_an_export_that_was_trained_since_is_the_users(demo: Path) -> None:
    (demo / "model" / "model.safetensors").write_text("trained")
    with pytest.raises(OutputError, match=r"`model\.safetensors`"):
        clear_earlier(demo)
    assert Run.open(demo).landed()


def test_links_are_not_followed(demo: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(demo / "model", elsewhere)
    (demo / "model").symlink_to(elsewhere)
    with pytest.raises(OutputError, match="`model`"):
        clear_earlier(demo)
    assert "manifest.json" in _names(elsewhere)


def test_a_second_run_that_no_demo_made_is_left_alone(demo: Path) -> None:
    (demo / "small" / ".planner-demo").unlink()
    with pytest.raises(OutputError, match="`small`"):
        clear_earlier(demo)
    assert (demo / "small" / "model" / "model.safetensors").is_file()


def test_a_run_that_no_demo_made_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Run.create(tmp_path / "run", SETTINGS) as run:
        run.record(evaluation((3,) * 8))
    said = refused(capsys, "demo", "--out", str(tmp_path / "run"))
    assert "must be free or hold an earlier demo" in said
    assert len(Run.open(tmp_path / "run").landed()) == 1


def test_a_search_into_what_a_killed_demo_left_is_not_the_demos(tmp_path: Path) -> None:
    (tmp_path / ".planner-demo").touch()
    Run.create(tmp_path, SETTINGS).close()
    with pytest.raises(OutputError, match="must be free or hold an earlier demo"):
        clear_earlier(tmp_path)


@pytest.mark.parametrize("running", ["", "small"])
def test_a_demo_that_is_running_is_not_replaced(demo: Path, running: str) -> None:
    with lock_folder(demo / running), pytest.raises(RunError, match="one process at a time"):
        clear_earlier(demo)
    assert Run.open(demo).landed()


def test_a_kill_while_an_earlier_demo_is_deleted_is_no_hindrance(
    demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete, deleted = Path.unlink, list[Path]()

    def unlink(path: Path, **options: bool) -> None:
        delete(path, **options)
        deleted.append(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        for _ in range(len(_names(demo))):
            with suppress(KeyboardInterrupt):
                clear_earlier(demo)
    assert len(deleted) > 5
    clear_earlier(demo)
    assert _names(demo) <= {".planner-demo", "run.lock"}


def test_evidence_goes_to_a_new_folder_and_over_an_earlier_demos(
    demo: Path, tmp_path: Path
) -> None:
    evidence = tmp_path / "deep" / "evidence"
    (demo / "front.json").write_text('{"command": "make demo"}')
    (demo / "front.csv").write_text("front")
    (demo / "front.png").write_text("picture")
    for printed in ("first", "second"):
        check_evidence(evidence, demo)
        keep_evidence(demo, evidence, printed)
    assert (evidence / "demo.txt").read_text() == "second\n"
    assert _names(evidence) == {"front.csv", "front.json", "front.png", "demo.txt"}


def test_checking_leaves_nothing(tmp_path: Path) -> None:
    check_evidence(tmp_path / "deep" / "evidence", tmp_path / "demo")
    assert _names(tmp_path) == set()


@pytest.mark.parametrize("place", ["file", "file/deeper", "/proc/x", "out", "out/deeper", "run"])
def test_evidence_that_cannot_be_kept_is_refused_at_once(
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    Run.create(tmp_path / "run", SETTINGS).close()
    before = _names(tmp_path)
    assert main(["demo", "--out", "out", "--evidence", place]) == 2
    assert "`--evidence` must be a folder" in capsys.readouterr().err
    assert _names(tmp_path) == before


@pytest.mark.parametrize("name", ["front.csv", "front.json", "front.png", "demo.txt"])
def test_evidence_replaces_no_file_of_the_users(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match="that no demo left there"):
        check_evidence(tmp_path, tmp_path / "demo")


def test_all_that_the_demo_writes_beside_its_export_is_known(demo: Path) -> None:
    _, others = sort_out(demo)
    assert {*others} == {demo / "model", demo / "small"}
