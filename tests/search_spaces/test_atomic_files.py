import errno
import os
import resource
from pathlib import Path

import pytest

from search_spaces.atomic_files import atomic_write_text
from search_spaces.errors import OutputError


def test_text_is_written_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic_write_text(path, "one")
    atomic_write_text(path, "zwei ü")
    assert path.read_text(encoding="utf-8") == "zwei ü"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "may write"),
        (errno.EIO, "choose another place"),
    ],
)
def test_a_refusal_leaves_the_old_file_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    path = tmp_path / "a.txt"
    atomic_write_text(path, "old")

    def refuse(_: int) -> None:
        raise OSError(code, "refused")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError) as caught:
        atomic_write_text(path, "new")
    assert str(path) in str(caught.value)
    assert remedy in str(caught.value)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


def test_a_limit_on_file_sizes_is_met_by_no_file(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match="ulimit"):
            atomic_write_text(tmp_path / "a.txt", "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="whose parents are folders"):
        atomic_write_text(tmp_path / "file" / "a.txt", "x")
