"""Latency tables on disk, where there may be no home, and requests that no memory holds."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from evaluators.costs.latency import predict
from evaluators.latency.latency_setting import Device
from evaluators.latency.measure import least_bytes
from evaluators.latency.workload import Latency, Workload
from planner import search
from planner.preparation.dense_model import DenseModel, open_model
from planner.preparation.latency_tables import (
    _cache_path,
    _save,
    check_request,
    check_runtime,
    find_table,
    fitting,
    read_table,
    stack_timer,
)
from planner.settings.search import SearchSettings
from planner.targets.gguf import gguf_target
from planner.targets.gguf.gguf_target import GgufTarget
from search_spaces.errors import LatencyError, MissingExtraError, SettingsError
from search_spaces.progress import NO_PROGRESS
from search_spaces.space.configuration import dense_configurations
from tests.models.factory import VOCABULARY
from tests.models.families import dense as dense_family
from tests.models.merging_tokenizers import of_bytes

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


def test_a_runtime_that_is_not_installed_is_refused_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(_target: GgufTarget) -> None:
        raise MissingExtraError("cyllama", "gguf", "running a GGUF file")

    monkeypatch.setattr(GgufTarget, "check_installed", missing)
    with pytest.raises(MissingExtraError, match=r"compression-planner\[gguf\]"):
        search("no-such-model", out=tmp_path / "run", budget="latency<=0.7x", runtime="llama.cpp")
    check_runtime(SearchSettings(model="m"))


IN_LLAMA_CPP = SearchSettings(model="m", runtime="llama.cpp", prompt_tokens=8, new_tokens=2)


@pytest.fixture(scope="module")
def measured(dense: DenseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder and a cache with a table in which a KB of a file takes a millisecond."""

    def timed(_target: object, folder: Path, _workload: Workload, *, threads: int) -> Latency:
        assert threads == torch.get_num_threads()
        kilobytes = (folder / "model.gguf").stat().st_size / 1000
        return Latency(prefill_ms=kilobytes, decode_ms=kilobytes / 10)

    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("planner.targets.served_stacks.time_folder", timed)
        patch.setattr(gguf_target, "vocabulary_of", lambda _tokenizer, _size: None)
        patch.setattr(gguf_target, "tokenizer_refusal", lambda _tokenizer, _size: "")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        find_table(dense, IN_LLAMA_CPP, folder, NO_PROGRESS)
    return folder


def test_a_table_is_measured_where_the_export_is_served(
    dense: DenseModel, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = read_table(dense, IN_LLAMA_CPP, measured)
    assert table is not None
    runtime = table.setting.runtime
    assert (runtime.name, runtime.dtype, runtime.attention) == ("llama.cpp", "float32", None)
    assert table.setting.device == Device.here(torch.device("cpu"))
    structure = dense.structure
    kept = np.stack([dense_configurations(structure.components)] * 3)
    kept[1, 1::2] = 24  # of 48 channels of each MLP
    kept[2] = 0
    whole, half, nothing = predict(structure, dense.costs.block_options, table, kept)
    assert whole.prefill_ms == pytest.approx(table.dense.prefill_ms)
    assert nothing.prefill_ms == pytest.approx(table.rest.prefill_ms)
    assert nothing.prefill_ms < half.prefill_ms < whole.prefill_ms
    monkeypatch.setenv("XDG_CACHE_HOME", str(measured / "cache"))
    assert find_table(dense, IN_LLAMA_CPP, tmp_path, NO_PROGRESS) == table  # the cached one


@pytest.mark.parametrize(
    ("family", "tokenizer", "said"),
    [
        ("qwen3", of_bytes(), "of this family it holds layers whole"),
        ("gpt2", of_bytes(), "of this family it holds layers whole"),
        ("opt", of_bytes(), "this is `opt`"),
        ("llama", None, "this is a WordLevel"),
    ],
)
def test_a_runtime_in_which_no_parts_can_be_timed_is_refused_before_any_is(
    family: str,
    tokenizer: PreTrainedTokenizerBase | None,
    said: str,
    dense: DenseModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    structure = dense_family(family)
    loaded = replace(
        dense.loaded,
        model=structure.backbone.model,
        tokenizer=tokenizer or dense.loaded.tokenizer,
    )
    odd = replace(dense, structure=structure, loaded=loaded)
    monkeypatch.setattr("planner.targets.served_stacks.time_folder", None)
    with (
        pytest.raises(SettingsError, match=said) as refusal,
        stack_timer(odd, IN_LLAMA_CPP),
    ):
        pass
    assert "`runtime` must be one that parts of this model" in str(refusal.value)
    assert str(refusal.value).endswith("set `--runtime torch`, or limit another cost")
    assert len(str(refusal.value)) <= 300
    with stack_timer(odd, IN_LLAMA_CPP.model_copy(update={"runtime": "torch"})) as timer:
        assert timer.runtime.name == "torch"


def test_a_table_of_another_runtime_is_refused(dense: DenseModel, measured: Path) -> None:
    in_torch = IN_LLAMA_CPP.model_copy(update={"runtime": "torch"})
    with pytest.raises(LatencyError, match=r"the runtime is `llama\.cpp .*`, here `torch "):
        read_table(dense, in_torch, measured)


def test_a_context_longer_than_the_table_s_is_refused(
    dense: DenseModel, measured: Path, tmp_path: Path
) -> None:
    longer = IN_LLAMA_CPP.model_copy(update={"prompt_tokens": 9})
    with pytest.raises(LatencyError, match=r"8 tokens read, 2 written`, here .* 9 tokens read"):
        read_table(dense, longer, measured)
    beyond = IN_LLAMA_CPP.model_copy(update={"prompt_tokens": 10**6})
    with pytest.raises(SettingsError, match="at most the 64 positions"):
        find_table(dense, beyond, tmp_path, NO_PROGRESS)


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
