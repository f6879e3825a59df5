"""When freed memory is kept for the next tensor, and when it returns to the kernel."""

import ctypes
import functools
import gc

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # malloc.h
NEVER = 2**31 - 1
LARGEST_KEPT = (2**30, 2**25)
"""Bytes up to which blocks are kept: glibc before 2.35 refuses more than the second."""


@functools.cache
def keep_pages() -> bool:
    """Stop glibc from returning large blocks to the kernel; return whether that worked.

    A candidate allocates and frees hundreds of megabytes of temporaries. By default each is mapped
    and faulted in anew, which took a third of the time on a two-core machine (SmolLM2-135M,
    8 × 256 tokens: 414,796 minor faults a forward before, none after).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    is_set = any(mallopt(MMAP_THRESHOLD, size) for size in LARGEST_KEPT)
    return is_set and bool(mallopt(TRIM_THRESHOLD, NEVER))


def release_pages() -> None:
    """Return freed memory to the kernel once, for a stage that needs none of it."""
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    trim(0)
