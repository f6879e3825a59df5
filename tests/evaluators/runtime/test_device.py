import pytest
import torch

from evaluators.runtime import DTypeName, device
from evaluators.runtime.device import (
    describe_dtype,
    is_bfloat16_faster,
    pick_device,
    pick_dtype,
)
from search_spaces.errors import SettingsError


def test_a_named_device_is_taken_as_it_is() -> None:
    assert pick_device("cpu:0") == "cpu:0"


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_auto_takes_the_accelerator_that_is_there(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    assert pick_device("auto") == kind


def test_auto_takes_the_cpu_where_no_accelerator_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    # built for CUDA, no card: what the build names must not be taken
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert pick_device("auto") == "cpu"


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("float32", torch.float32),
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_a_named_dtype_is_taken_on_every_device(
    name: DTypeName, dtype: torch.dtype, device: str
) -> None:
    assert pick_dtype(name, device) == dtype


@pytest.mark.parametrize(
    ("avx512", "amx", "speed_up", "is_faster"),
    [
        (False, False, 9.0, False),
        (True, False, 1.7, True),
        (True, False, 0.5, False),
        (False, True, 3.0, True),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_where_that_is_faster(
    *, avx512: bool, amx: bool, speed_up: float, is_faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLANNER_BFLOAT16", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(device, "_bfloat16_speed_up", lambda: speed_up)
    assert is_bfloat16_faster() == is_faster
    assert pick_dtype("auto", "cpu") == (torch.bfloat16 if is_faster else torch.float32)


@pytest.mark.parametrize("reported", [False, True])
@pytest.mark.parametrize(("value", "dtype"), [("0", torch.float32), ("1", torch.bfloat16)])
def test_the_environment_variable_overrides_what_the_cpu_reports(
    value: str, dtype: torch.dtype, reported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: reported)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: reported)
    monkeypatch.setenv("PLANNER_BFLOAT16", value)
    assert is_bfloat16_faster() == (value == "1")
    assert pick_dtype("auto", "cpu") == dtype
    assert pick_dtype("float16", "cpu") == torch.float16


@pytest.mark.parametrize("value", ["", "yes", "2", "true"])
def test_another_value_of_the_environment_variable_is_refused(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANNER_BFLOAT16", value)
    with pytest.raises(SettingsError, match=f"must be `0` or `1`, got `{value}`.*unset it"):
        pick_dtype("auto", "cpu")


@pytest.mark.parametrize(("supported", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_card_computes_in_bfloat16_where_it_can(
    supported: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    assert pick_dtype("auto", "cuda:1") == dtype


@pytest.mark.parametrize(
    ("name", "kind", "value", "said"),
    [
        ("auto", "cpu", "1", "bfloat16 on cpu (auto: this CPU is faster in it)"),
        ("auto", "cpu", "0", "float32 on cpu (auto: this CPU is no faster in bfloat16)"),
        ("auto", "mps", "1", "float32 on mps (auto: it is sure to work on this device)"),
        ("float16", "cpu", "1", "float16 on cpu (as `--dtype` says)"),
    ],
)
def test_the_choice_is_told(
    name: DTypeName, kind: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANNER_BFLOAT16", value)
    assert describe_dtype(name, kind) == said


def test_unknown_accelerators_compute_in_float32() -> None:
    assert pick_dtype("auto", "mps") == torch.float32


@pytest.mark.parametrize(
    "name", ["nonsense", "cuda:7", "cuda:0:1", "xpu", "meta", "hpu", "mps", "vulkan", "CPU"]
)
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"got '{name}'; choose `auto` or `cpu`"):
        pick_device(name)


def test_how_fast_a_cpu_is_in_bfloat16_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, taken = torch.get_num_threads(), iter([4.0, 2.0, *[5.0, 3.0] * 6])
    monkeypatch.setattr(device, "_product_seconds", lambda _: next(taken))
    device._bfloat16_speed_up.cache_clear()
    try:
        assert [device._bfloat16_speed_up() for _ in range(2)] == [2.0, 2.0]
    finally:
        device._bfloat16_speed_up.cache_clear()
    assert torch.get_num_threads() == threads
