"""Which dtype to compute in, and where."""

import platform
from pathlib import Path
from typing import Literal

import torch

from search_spaces.errors import SettingsError

DTypeName = Literal["auto", "float32", "bfloat16", "float16"]


def pick_device(name: str) -> str:
    """Turn ``auto`` into the accelerator that is there, or the CPU.

    Raises:
        SettingsError: Where the device is not there.
    """
    if name != "auto":
        try:
            torch.zeros(1, device=name).item()  # a device without numbers, `meta`, refuses
        except (RuntimeError, AssertionError) as error:  # torch raises either
            raise SettingsError(
                f"`device` must be one that torch finds here, got `{name}`: "
                f"{str(error).partition(chr(10))[0]}; choose `cpu` or `auto`"
            ) from error
        return name
    accelerator = (
        torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    )
    return "cpu" if accelerator is None else accelerator.type


def pick_dtype(name: DTypeName, device: str) -> torch.dtype:
    """Turn ``auto`` into the dtype that the device multiplies fastest without losing the scale.

    A CPU with bfloat16 instructions runs it about three times as fast as float32; one without
    emulates it at half the speed.
    """
    if name != "auto":
        dtype = getattr(torch, name)
        assert isinstance(dtype, torch.dtype)
        return dtype
    if device == "cpu":
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if fast else torch.float32
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float32


def processor_name() -> str:
    """Give the model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
