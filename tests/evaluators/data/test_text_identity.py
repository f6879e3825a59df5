"""What identifies a text changes with its files, and with nothing else."""

import os
from pathlib import Path

import pytest

from evaluators.data import text_identity
from evaluators.data.text_identity import digest_of_text


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"text of {name}", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", ["a.txt", ".", "*.txt"])
def test_a_change_of_any_file_is_noticed(
    name: str, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(texts)
    before = digest_of_text(name)
    assert before == digest_of_text(f"{texts}/{name}") != ""
    os.utime(texts / "a.txt", ns=(1, 1))
    assert digest_of_text(name) == before
    (texts / "a.txt").write_text("text of A.txt", encoding="utf-8")
    assert digest_of_text(name) != before


def test_a_file_that_joins_a_folder_is_noticed(texts: Path) -> None:
    before = digest_of_text(str(texts))
    (texts / "c.txt").touch()
    assert digest_of_text(str(texts)) != before


def test_a_large_text_is_read_as_far_as_the_limit(
    texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_identity, "MOST_BYTES", 20)
    before = digest_of_text(str(texts))
    (texts / "b.txt").write_text("text of b.txT", encoding="utf-8")  # beyond
    assert digest_of_text(str(texts)) == before
    (texts / "b.txt").write_text("text of b", encoding="utf-8")  # its size is not
    assert digest_of_text(str(texts)) != before


@pytest.mark.parametrize("name", ["no.txt", "wikitext:wikitext-2-raw-v1", "no*.txt", "x" * 5000])
def test_what_is_no_file_here_is_not_identified(name: str) -> None:
    assert digest_of_text(name) == ""
