from pathlib import Path

import pytest

from search_spaces.paths import existing_path


def test_a_name_that_exists_is_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/somewhere")
    (tmp_path / "~tiny").mkdir()
    names = ("~tiny", "~/run", "~nosuchuser/run", "a~", "\0", "x" * 5000)
    assert [str(existing_path(name)) for name in names] == [
        "~tiny", "/somewhere/run", "~nosuchuser/run", "a~", "\0", "x" * 5000,
    ]  # fmt: skip
