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
        ("linked/a.txt", "texts/a.txt"),
        ("texts", "texts"),
    ],
)
def test_a_model_is_named_from_the_root(named: str, expected: str, here: Path) -> None:
    settings = located(SearchSettings(model=named, pretrained_router=named))
    assert settings.model == str(here / expected)
    assert settings.pretrained_router == str(here / expected)


@pytest.mark.parametrize("named", ["gpt2", "no.txt", "x" * 5000])
def test_what_is_not_here_keeps_its_name(named: str, here: Path) -> None:
    assert located(SearchSettings(model=named)).model == named


def test_a_text_keeps_the_name_that_was_typed(here: Path) -> None:
    settings = located(SearchSettings(model="gpt2", data="notes.txt", holdout="~/notes.txt"))
    assert (settings.data, settings.holdout) == ("notes.txt", "~/notes.txt")


def test_a_link_to_a_model_is_followed(here: Path) -> None:
    assert located(SearchSettings(model="linked")).model == str(here / "texts")


def test_one_file_has_many_names(here: Path) -> None:
    assert is_same_place("notes.txt", str(here / "notes.txt"))
    assert is_same_place(str(here / "linked" / "a.txt"), "texts/a.txt")
    assert is_same_place("gone.txt", str(here / "gone.txt"))
    assert is_same_place(None, None)
    assert not is_same_place("notes.txt", None)
    assert not is_same_place("notes.txt", "texts/a.txt")
