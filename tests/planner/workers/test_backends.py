import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest

from planner import search
from planner.settings.search import SearchSettings
from planner.settings.worker_devices import WorkerDevices
from planner.workers import backends
from planner.workers.backends import (
    Backends,
    LocalBackends,
    check_workers,
    scoring_backends,
)
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


def test_one_worker_on_ray_is_a_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    backends_of: list[SearchSettings] = []

    @contextmanager
    def hired(settings: SearchSettings, _prepared: object, _scratch: Path) -> Iterator[Backends]:
        backends_of.append(settings)
        yield LocalBackends(prepared)

    monkeypatch.setattr(backends, "_workers", hired)
    prepared = Mock(folder=tmp_path / "run")
    for workers, devices in ((1, None), ("ray", WorkerDevices.parse("1xcpu:2"))):
        settings = SearchSettings.checked(
            model="m", device="cpu", workers=workers, worker_devices=devices
        )
        with scoring_backends(settings, prepared):
            pass
    assert [settings.workers for settings in backends_of] == ["ray"]
