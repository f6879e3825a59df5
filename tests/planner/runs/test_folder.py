"""What is deleted in the folder of a run was the product's, and the rest stays."""

from pathlib import Path

import pytest

from planner.run import Run
from planner.runs.folder import delete_prepared, sort_out
from search_spaces.atomic_files import temporary_path
from tests.problems.toy_search import SETTINGS, evaluation

DEAD = 4194303
"""A number that no process has."""


def _half(name: str) -> str:
    return str(temporary_path(Path(name), DEAD))


OURS = [
    *("settings.yaml", "run.sqlite", "run.sqlite-wal", "environment.json", "calibration.npz"),
    *("front.csv", "front.png", "front.json", "compare.csv", "latency.json", "ranking.npz"),
    "space.json",
    *("statistics/layer-000.safetensors", "levels/layers.0.mlp/16.safetensors"),
    *("levels/layers.0.mlp/16-50%.safetensors", "levels/layers.0.mlp/16-2:4.safetensors"),
    *map(_half, ("front.csv", "space.json", "statistics/layer-001.safetensors")),
]
FOREIGN = [
    *("notes.txt", "settings.yaml.bak", "model/config.json", "levels/notes.txt", "levels/a/b.txt"),
    *("statistics/mine.safetensors", "levels/layers.0.mlp/best.safetensors", ".front.tmp.csv"),
    *("levels/layers.0.mlp/deeper/16.safetensors", "front.csv/nested", _half("notes.txt")),
]


def _write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("content")


def _files(folder: Path) -> set[str]:
    paths = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix() for p in paths}


@pytest.mark.parametrize("name", OURS, ids=range(len(OURS)))
def test_what_the_product_writes_is_its_own(tmp_path: Path, name: str) -> None:
    _write(tmp_path, name)
    ours, others = sort_out(tmp_path)
    assert tmp_path / name in ours
    assert others == []


@pytest.mark.parametrize("name", FOREIGN, ids=range(len(FOREIGN)))
def test_what_it_does_not_write_is_not(tmp_path: Path, name: str) -> None:
    _write(tmp_path, name)
    ours, (other,) = sort_out(tmp_path)
    assert (tmp_path / name).is_relative_to(other)
    assert all(path.is_dir() for path in ours)


def test_a_run_in_which_nothing_was_scored_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    run = Run.create(folder, SETTINGS)
    _write(folder, *(name for name in OURS if not (folder / name).exists()))
    run.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_before_stays(tmp_path: Path) -> None:
    Run.create(tmp_path, SETTINGS).discard()
    assert list(tmp_path.iterdir()) == []


def test_discarding_removes_nothing_foreign_and_follows_no_links(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "run"
    _write(outside, "layers.0.mlp/16.safetensors", "layer-000.safetensors", "16.safetensors")
    foreign = [name for name in FOREIGN if not name.startswith("front.csv")]
    run = Run.create(folder, SETTINGS)
    _write(folder, "levels/layers.0.mlp/16.safetensors", *foreign)
    (folder / "statistics" / "layer-000.safetensors").symlink_to(outside / "layer-000.safetensors")
    (folder / "levels" / "layers.1.mlp").symlink_to(outside)
    (folder / "calibration.npz").symlink_to(outside / "16.safetensors")
    run.discard()
    links = {"calibration.npz", "statistics/layer-000.safetensors"}
    assert _files(folder) == {*foreign, *links}
    assert (folder / "levels" / "layers.1.mlp").is_symlink()
    assert len(_files(outside)) == 3


def test_a_refused_folder_is_left_as_it_was(tmp_path: Path) -> None:
    _write(tmp_path, "run/thesis.tex")
    with pytest.raises(ValueError, match=r"thesis\.tex"):
        Run.create(tmp_path / "run", SETTINGS)
    assert _files(tmp_path) == {"run/thesis.tex"}


def test_prepared_folders_are_emptied_of_what_is_ours(tmp_path: Path) -> None:
    _write(tmp_path, "statistics/layer-000.safetensors", "levels/layers.0.mlp/16.safetensors")
    delete_prepared(tmp_path, "statistics")
    assert not (tmp_path / "statistics").exists()
    _write(tmp_path, "statistics/layer-000.safetensors", "statistics/notes.txt")
    delete_prepared(tmp_path, "statistics")
    assert _files(tmp_path) == {"statistics/notes.txt", "levels/layers.0.mlp/16.safetensors"}


def test_what_was_scored_is_never_lost_to_a_second_search(tmp_path: Path) -> None:
    with Run.create(tmp_path, SETTINGS) as run:
        run.record(evaluation((3,) * 8))
    with pytest.raises(ValueError, match="must not hold a run already"):
        Run.create(tmp_path, SETTINGS)
    assert len(Run.open(tmp_path).landed()) == 1
