"""Device and dtype to compute in, and what the CPU can do."""

import os
import platform
import time
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import linear

from evaluators.runtime import DTypeName
from search_spaces.errors import SettingsError
from search_spaces.suggestions import shown

BFLOAT16_VARIABLE = "PLANNER_BFLOAT16"
"""Environment variable that overrides what was measured: `1` to compute in it, `0` not to."""
_WORTH_IT = 1.25
"""How much faster products must be in bfloat16, for all that surrounds them is slower in it."""
_ROWS, _FEATURES, _TRIES = 256, 1024, 7


def pick_device(name: str) -> str:
    """Return the device to compute on: ``auto`` is the accelerator present, or else the CPU.

    Raises:
        SettingsError: If torch cannot use the device.
    """
    if name != "auto":
        try:
            torch.zeros(1, device=name).item()  # a device without numbers, `meta`, refuses
        except (RuntimeError, AssertionError, ImportError) as error:  # torch raises any
            raise SettingsError(
                f"`device` must be one that torch finds here, got {shown(name)}; "
                f"choose {' or '.join(f'`{here}`' for here in ('auto', *_devices_here()))}"
            ) from error
        return name
    accelerator = (
        torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    )
    return "cpu" if accelerator is None else accelerator.type


def _devices_here() -> list[str]:
    if not torch.accelerator.is_available():
        return ["cpu"]
    kind = pick_device("auto")
    return ["cpu", *(f"{kind}:{index}" for index in range(torch.accelerator.device_count()))][:5]


def pick_dtype(name: DTypeName, device: str) -> torch.dtype:
    """Return the dtype to compute in: ``auto`` is the fastest one that keeps float32's range.

    CPUs with instructions for bfloat16 differ, so that it is measured: matrix units make it three
    times as fast as float32, some vector units 1.7 times, and others half as fast. A CUDA device
    without bfloat16 computes in float16, which has a smaller range.

    Raises:
        SettingsError: If `PLANNER_BFLOAT16` is set to anything but `0` or `1`.
    """
    if name == "auto":
        return _fastest_dtype(device)[0]
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def describe_dtype(name: DTypeName, device: str) -> str:
    """Return the dtype that `pick_dtype` picks, and why, in words.

    Raises:
        SettingsError: If `PLANNER_BFLOAT16` is set to anything but `0` or `1`.
    """
    dtype = str(pick_dtype(name, device)).removeprefix("torch.")
    reason = f"auto: {_fastest_dtype(device)[1]}" if name == "auto" else "as `--dtype` says"
    return f"{dtype} on {device} ({reason})"


def _fastest_dtype(device: str) -> tuple[torch.dtype, str]:
    """Return the fastest dtype on a device, and what makes it so."""
    if device == "cpu":
        if is_bfloat16_faster():
            return torch.bfloat16, "this CPU is faster in it"
        return torch.float32, "this CPU is no faster in bfloat16"
    if device.startswith("cuda"):
        if torch.cuda.is_bf16_supported():
            return torch.bfloat16, "this device has instructions for it"
        return torch.float16, "this device has no bfloat16"
    return torch.float32, "it is sure to work on this device"


def is_bfloat16_faster() -> bool:
    """Return whether the CPU multiplies faster in bfloat16, unless `PLANNER_BFLOAT16` says so.

    Raises:
        SettingsError: If `PLANNER_BFLOAT16` is set to anything but `0` or `1`.
    """
    override = os.environ.get(BFLOAT16_VARIABLE)
    if override is None:
        return _has_bfloat16_instructions() and _bfloat16_speed_up() >= _WORTH_IT
    if override not in {"0", "1"}:
        raise SettingsError(
            f"the environment variable `{BFLOAT16_VARIABLE}` must be `0` or `1`, got "
            f"`{override}`: set one of them, or unset it to use what is measured"
        )
    return override == "1"


def _has_bfloat16_instructions() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@cache
def _bfloat16_speed_up() -> float:
    """Measure how many times as fast as float32 matrix products are in bfloat16.

    In processor time of one thread, and the fastest of some tries in turns, so that other work on
    the CPU hardly counts.
    """
    weights = torch.ones(_FEATURES, _FEATURES), torch.ones(_FEATURES, _FEATURES).bfloat16()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tries = [[_product_seconds(weight) for weight in weights] for _ in range(_TRIES)]
    finally:
        torch.set_num_threads(threads)
    in_float32, in_bfloat16 = (min(seconds) for seconds in zip(*tries, strict=True))
    return float(in_float32 / in_bfloat16)


def _product_seconds(weight: Tensor) -> float:
    rows = torch.ones(_ROWS, weight.shape[1], dtype=weight.dtype)
    started = time.thread_time()
    linear(rows, weight)
    return time.thread_time() - started


def processor_instructions() -> list[str]:
    """Return what kernels are chosen by: those of two CPUs of one name may differ."""
    found = [torch.backends.cpu.get_cpu_capability()]
    if torch.cpu._is_avx512_bf16_supported():
        found.append("AVX512_BF16")
    if torch.cpu._is_amx_tile_supported():
        found.append("AMX")
    return found


def processor_name() -> str:
    """Return the model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
