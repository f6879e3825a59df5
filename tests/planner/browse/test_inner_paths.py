"""Paths stay in the folder of the page."""

from pathlib import Path

import pytest

from planner.browse.inner_paths import new_folder, run_folder
from search_spaces.errors import OutputError, RunError

OUTSIDE = ("../x", "a/../../x", "/etc", "~/x", "", " ", "a\\b", "a\nb", ".hidden", "a/.b", "\0")


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
