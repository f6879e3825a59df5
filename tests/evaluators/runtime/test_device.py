import pytest
import torch

from evaluators.runtime import DTypeName
from evaluators.runtime.device import (
    describe_dtype,
    has_bfloat16_instructions,
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
    ("avx512", "amx", "dtype"),
    [
        (False, False, torch.float32),
        (True, False, torch.bfloat16),
        (False, True, torch.bfloat16),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_where_it_has_instructions(
    avx512: bool, amx: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLANNER_BFLOAT16", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert has_bfloat16_instructions() == (dtype == torch.bfloat16)
    assert pick_dtype("auto", "cpu") == dtype


@pytest.mark.parametrize("reported", [False, True])
@pytest.mark.parametrize(("value", "dtype"), [("0", torch.float32), ("1", torch.bfloat16)])
def test_the_environment_variable_overrides_what_the_cpu_reports(
    value: str, dtype: torch.dtype, reported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: reported)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: reported)
    monkeypatch.setenv("PLANNER_BFLOAT16", value)
    assert has_bfloat16_instructions() == (value == "1")
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
    ("name", "device", "value", "said"),
    [
        ("auto", "cpu", "1", "bfloat16 on cpu (auto: this CPU has instructions for it)"),
        ("auto", "cpu", "0", "float32 on cpu (auto: this CPU has no bfloat16 instructions)"),
        ("auto", "mps", "1", "float32 on mps (auto: it is sure to work on this device)"),
        ("float16", "cpu", "1", "float16 on cpu (as `--dtype` says)"),
    ],
)
def test_the_choice_is_told(
    name: DTypeName, device: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANNER_BFLOAT16", value)
    assert describe_dtype(name, device) == said


def test_unknown_accelerators_compute_in_float32() -> None:
    assert pick_dtype("auto", "mps") == torch.float32


@pytest.mark.parametrize(
    "name", ["nonsense", "cuda:7", "cuda:0:1", "xpu", "meta", "hpu", "mps", "vulkan", "CPU"]
)
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"got '{name}'; choose `auto` or `cpu`"):
        pick_device(name)
