"""How much memory a model may take."""

from pathlib import Path

import psutil
import torch
from torch import nn

WORKING_BYTES = 2**30
"""For everything but the weights, without which they count as too large."""

CGROUPS = (
    # limit, use, and what of the use the kernel would give back; version 2, then version 1
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def weights_fit(model: nn.Module, dtype: torch.dtype, device: str) -> bool:
    """Tell whether a model's weights fit into memory, with some room to work with.

    Args:
        model: May be without weights.
        dtype: That they are held in.
        device: Where they go.
    """
    weight_bytes = sum(weight.numel() for weight in model.parameters()) * dtype.itemsize
    return weight_bytes + WORKING_BYTES <= available_bytes(device)


def available_bytes(device: str, cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Give the bytes that can still be taken without swapping.

    Args:
        device: Where the memory is to be taken. What goes to an accelerator passes through the
            machine's memory, so that the smaller of the two counts.
        cgroup: Where the kernel tells the limits of a container.
    """
    rooms = [psutil.virtual_memory().available]
    rooms += [room for names in CGROUPS if (room := _room(cgroup, *names)) is not None]
    if device.startswith("cuda"):
        rooms.append(torch.cuda.mem_get_info(device)[0])
    return min(rooms)


def _room(cgroup: Path, limit: str, use: str, spare: str) -> int | None:
    """Give what a container may still take; none where nothing limits it."""
    try:
        most, used = (int((cgroup / name).read_text()) for name in (limit, use))
        lines = (cgroup / use).with_name("memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # there is no such file, or it says `max`
        return None
    counts = dict(line.split() for line in lines)
    return most - used + int(counts.get(spare, 0))


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on the CPU or an accelerator."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
