"""A file is the same one from wherever it is named."""

from pathlib import Path

import pytest

from planner.settings.places import is_same_place, located
from planner.settings.search import SearchSettings


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "texts").mkdir()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "texts" / "a.txt").touch()
    (tmp_path / "latest.txt").symlink_to("notes.txt")
    (tmp_path / "linked").symlink_to("texts")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("notes.txt", "notes.txt"),
        ("./texts/../notes.txt", "notes.txt"),
        ("~/notes.txt", "notes.txt"),
        ("latest.txt", "latest.txt"),
        ("linked/a.txt", "texts/a.txt"),
        ("texts/*.txt", "texts/*.txt"),
        ("texts", "texts"),
    ],
)
def test_what_is_here_is_named_from_the_root(named: str, expected: str, here: Path) -> None:
    settings = located(SearchSettings(model="gpt2", data=named, holdout="texts"))
    assert settings.data == str(here / expected)
    assert settings.holdout == str(here / "texts")
    assert settings.model == "gpt2"


@pytest.mark.parametrize("named", ["wikitext:wikitext-2-raw-v1", "no.txt", "zz*.txt", "x" * 5000])
def test_what_is_not_here_keeps_its_name(named: str, here: Path) -> None:
    assert located(SearchSettings(model="gpt2", data=named)).data == named


def test_a_link_to_a_model_is_followed(here: Path) -> None:
    assert located(SearchSettings(model="linked")).model == str(here / "texts")


def test_one_file_has_many_names(here: Path) -> None:
    assert is_same_place("notes.txt", str(here / "notes.txt"))
    assert is_same_place(str(here / "linked" / "a.txt"), "texts/a.txt")
    assert is_same_place("gone.txt", str(here / "gone.txt"))
    assert is_same_place(None, None)
    assert not is_same_place("notes.txt", None)
    assert not is_same_place("notes.txt", "texts/a.txt")
