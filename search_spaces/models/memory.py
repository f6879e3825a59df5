"""Memory that is available to a model."""

from pathlib import Path

import psutil
import torch
from torch import nn

WORKING_BYTES = 2**30
"""Memory left for everything but the weights when deciding whether these fit."""

CGROUPS = (
    # limit, use, and the reclaimable part of the use; version 2, then version 1
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def weights_fit(model: nn.Module, dtype: torch.dtype, device: str) -> bool:
    """Return whether a model's weights fit into memory, with some left to work with.

    Args:
        model: May be on the ``meta`` device.
        dtype: Of the weights in memory.
        device: Where they are placed.
    """
    weight_bytes = sum(weight.numel() for weight in model.parameters()) * dtype.itemsize
    return weight_bytes + WORKING_BYTES <= available_bytes(device)


def available_bytes(device: str, cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes that can still be allocated without swapping.

    Args:
        device: Where they are to be allocated. What an accelerator holds passes through the
            machine's memory first, so that the smaller of the two counts.
        cgroup: Where the kernel publishes the limits of a container.
    """
    available = [psutil.virtual_memory().available]
    available += [left for names in CGROUPS if (left := _available(cgroup, *names)) is not None]
    if device.startswith("cuda"):
        available.append(torch.cuda.mem_get_info(device)[0])
    return min(available)


def _available(cgroup: Path, limit: str, use: str, reclaimable: str) -> int | None:
    """Return the bytes that a container may still allocate; None: nothing limits it."""
    try:
        limit_bytes, used_bytes = (int((cgroup / name).read_text()) for name in (limit, use))
        lines = (cgroup / use).with_name("memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # there is no such file, or it holds `max`
        return None
    counts = dict(line.split() for line in lines)
    return limit_bytes - used_bytes + int(counts.get(reclaimable, 0))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, on the CPU or an accelerator."""
    phrases = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in phrases)
    )
