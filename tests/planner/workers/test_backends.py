import os
from pathlib import Path

import pytest

from planner import search
from planner.settings.search import SearchSettings
from planner.workers.backends import check_workers
from search_spaces.errors import SettingsError


def test_more_workers_than_a_machine_can_use_are_refused_before_anything(tmp_path: Path) -> None:
    count = 4 * (os.cpu_count() or 1)
    check_workers(SearchSettings.checked(model="m", workers=count))
    rule = rf"`workers` must be at most {count} on this machine, 4 for each core, got {count + 1};"
    with pytest.raises(SettingsError, match=rule):
        search("no model", out=tmp_path / "run", workers=count + 1)
    assert not (tmp_path / "run").exists()


def test_settings_of_a_larger_machine_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SearchSettings.checked(model="m", workers=999).save(tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert SearchSettings.load(tmp_path).workers == 999
