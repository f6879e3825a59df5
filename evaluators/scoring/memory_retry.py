"""Going on with smaller batches after memory ran out."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from search_spaces.models.memory import is_out_of_memory
from search_spaces.space.configuration import Configurations

Result = TypeVar("Result")

Attempt = Callable[[Configurations], Iterator[tuple[int, Result]]]
"""Works through some candidates; yields a position among them and its result."""
Shrink = Callable[[BaseException], None]
"""Makes what is held at once smaller, given the error; raises if it cannot."""


def until_done(
    configurations: Configurations, attempt: Attempt[Result], shrink: Shrink
) -> Iterator[tuple[int, Result]]:
    """Attempt candidates again, those without a result yet, each time that memory runs out.

    Args:
        configurations: ``(candidates, components)``
        attempt: Run on the candidates that are left.
        shrink: Run before each further attempt.

    Yields:
        Position of the candidate in ``configurations``, and its result, once each.
    """
    waiting = np.arange(len(configurations))
    while len(waiting):
        landed: list[int] = []
        try:
            for position, result in attempt(configurations[waiting]):
                landed.append(position)
                yield int(waiting[position]), result
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            shrink(error)
        waiting = np.delete(waiting, landed)
