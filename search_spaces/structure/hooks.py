"""Hooks on modules that are removed when a block ends."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from torch.utils.hooks import RemovableHandle


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Keep hooks for the length of a block; for a single hook its handle does that by itself.

    Args:
        handles: As registering hooks returns them; an iterator is run inside the block, so that
            an error on the way leaves no hook behind.
    """
    with ExitStack() as stack:
        for handle in handles:
            stack.enter_context(handle)
        yield
