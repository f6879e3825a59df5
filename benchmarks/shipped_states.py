"""What it takes to pass a hidden state on to another process, and to run its prefix anew."""

import statistics
import time
from multiprocessing.shared_memory import SharedMemory

import numpy as np
from torch import Tensor

from benchmarks.component_times import ComponentTimes
from benchmarks.report import Row
from search_spaces.space.configuration import Configurations

_TRIES = 7


def shipped_seconds(hidden: Tensor) -> float:
    """Return the seconds to write a hidden state to shared memory and to read it from there."""
    content = np.zeros(hidden.nbytes, dtype=np.uint8)
    shared = SharedMemory(create=True, size=hidden.nbytes)
    try:
        place = np.ndarray(content.shape, dtype=np.uint8, buffer=shared.buf)
        tries = []
        for _ in range(_TRIES):
            started = time.perf_counter()
            place[:] = content
            content = place.copy()
            tries.append(time.perf_counter() - started)
        del place
    finally:
        shared.close()
        shared.unlink()
    return statistics.median(tries)


def state_row(hidden: Tensor, dense: Configurations, times: ComponentTimes) -> Row:
    """Hold one way against the other.

    Args:
        hidden: A hidden state ``(windows, tokens, hidden)``.
        dense: Configurations of the dense model, ``(components,)``, as they run.
        times: What components take on as much text.
    """
    windows, tokens, _ = hidden.shape
    runs = [times.walk(dense, set())[0] for _ in range(_TRIES)]
    half = statistics.median(runs) / 2
    return {
        "hidden state of": f"{windows} windows of {tokens} tokens",
        "MB": hidden.nbytes / 1e6,
        "passed on, ms": 1e3 * shipped_seconds(hidden),
        "run anew to the middle, ms": 1e3 * half,
    }
