"""Latency tables on disk, where there may be no home, and requests that no memory holds."""

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from evaluators.latency.measure import least_bytes
from evaluators.latency.workload import Workload
from planner.preparation.dense_model import DenseModel, open_model
from planner.preparation.latency_tables import _cache_path, _save, check_request, fitting
from planner.settings.search import SearchSettings
from search_spaces.errors import SettingsError
from search_spaces.progress import NO_PROGRESS
from tests.models.factory import VOCABULARY

if TYPE_CHECKING:
    from evaluators.latency.latency_setting import Setting
    from evaluators.latency.latency_table import LatencyTable

REQUEST = Workload(batch_size=2, prompt_tokens=8, new_tokens=2)


@pytest.fixture(scope="module")
def dense(saved_llama: Path) -> DenseModel:
    return open_model(SearchSettings(model=str(saved_llama)), NO_PROGRESS)


def test_the_least_that_a_request_takes(dense: DenseModel) -> None:
    model, kv_bytes = dense.loaded.model, dense.costs.dense()["kv"]
    width, vocabulary, itemsize = model.config.hidden_size, VOCABULARY, model.dtype.itemsize
    expected = 2 * ((2 * 8 * width + vocabulary) * itemsize + (8 + 2) * kv_bytes)
    assert least_bytes(model, REQUEST, kv_bytes) == expected


@pytest.mark.parametrize("more", [{"batch_size": 10**9}, {"batch_size": 10**8, "new_tokens": 99}])
def test_a_request_that_no_memory_holds_is_refused_before_it_is_made(
    more: dict[str, int], dense: DenseModel
) -> None:
    huge = REQUEST.model_copy(update=more)
    said = (
        "`batch_size` times `prompt_tokens` and `new_tokens` must fit into memory, got "
        f"{huge.batch_size} times 8 and {huge.new_tokens}, which take"
    )
    with pytest.raises(SettingsError, match=said):
        check_request(dense, huge)
    entered = []
    with pytest.raises(SettingsError, match=said), fitting(dense, huge):
        entered.append(huge)
    assert not entered
    check_request(dense, REQUEST)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (MemoryError(), SettingsError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), SettingsError),
        (RuntimeError("shapes do not fit"), RuntimeError),
    ],
)
def test_so_is_one_for_which_memory_runs_out_and_nothing_else(
    error: Exception, raised: type[Exception], dense: DenseModel
) -> None:
    with pytest.raises(raised) as caught, fitting(dense, REQUEST):
        raise error
    assert isinstance(caught.value, SettingsError) == (raised is SettingsError)


def test_a_cache_that_cannot_be_written_is_missed_by_nobody(
    tmp_path: Path, notices: list[str]
) -> None:
    (tmp_path / "file").touch()
    table = cast("LatencyTable", SimpleNamespace(to_json=lambda: "{}"))
    _save(table, tmp_path / "cache" / "a.json")
    assert (tmp_path / "cache" / "a.json").read_text(encoding="utf-8") == "{}"
    assert notices == []
    _save(table, tmp_path / "file" / "a.json")
    assert notices[-1].startswith("latency is measured again by the next run: ")


def test_nobody_has_no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    setting = cast("Setting", SimpleNamespace(digest="0"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _cache_path(setting) == tmp_path / "compression-planner" / "latency" / "0.json"

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert _cache_path(setting) is None
