"""Paths stay in the folder of the page."""

from pathlib import Path

import pytest

from planner.browse.callbacks.export_callbacks import folder_name
from planner.browse.inner_paths import new_folder, run_folder
from search_spaces.errors import OutputError, RunError

OUTSIDE = ("../x", "a/../../x", "/etc", "", " ", ".hidden", "a/.b", "\0", "\ud800")
ODD = ("~t", "a\\b", "a\nb", "\udcff")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="must lie inside"):
        run_folder(tmp_path, name)
    with pytest.raises(OutputError, match="must lie inside"):
        new_folder(tmp_path, name)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="must lie inside"):
        run_folder(tmp_path / "runs", "link")
    with pytest.raises(OutputError, match="must lie inside"):
        new_folder(tmp_path / "runs", "link/export")


def test_a_name_inside_is_a_path_below(tmp_path: Path) -> None:
    assert run_folder(tmp_path, "a/b") == tmp_path / "a" / "b"
    assert run_folder(tmp_path, ".") == tmp_path
    assert new_folder(tmp_path, "a/b") == tmp_path / "a" / "b"


def test_a_new_folder_takes_no_others_place(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for name in ("taken", "nowhere", "."):
        with pytest.raises(OutputError, match="taken"):
            new_folder(tmp_path, name)


@pytest.mark.parametrize("name", ODD)
def test_a_run_may_be_named_as_the_system_takes_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert run_folder(tmp_path, name) == tmp_path / name
    assert new_folder(tmp_path, f"{name}/export") == tmp_path / name / "export"


@pytest.mark.parametrize("name", ODD)
def test_a_new_folder_gets_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="plain name"):
        new_folder(tmp_path, name)
    assert new_folder(tmp_path, folder_name(name, "a1", "hf")).parent == tmp_path


def test_a_long_name_is_refused_as_such(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="230 bytes"):
        new_folder(tmp_path, "n" * 300)
    longest = folder_name("n" * 255, "a1", "hf")
    assert new_folder(tmp_path, f"{longest}-99").name.startswith("nnn")
    assert longest.endswith("-a1-hf")
