"""Going on with smaller batches after memory ran out."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from evaluators.scoring.prefix_tree import Members
from search_spaces.models.memory import is_out_of_memory

Result = TypeVar("Result")

Attempt = Callable[[Members], Iterator[tuple[int, Result]]]
"""Works through some candidates; yields a position among them and its result."""
Shrink = Callable[[BaseException], None]
"""Makes what is held at once smaller, given the error; raises if it cannot."""


def until_done(
    members: Members, attempt: Attempt[Result], shrink: Shrink
) -> Iterator[tuple[int, Result]]:
    """Attempt candidates again, those without a result yet, each time that memory runs out.

    Args:
        members: Positions of the candidates.
        attempt: Run on those that are left; what it has not yielded by its end, others do.
        shrink: Run before each further attempt.

    Yields:
        Position of the candidate, and its result, once each.
    """
    while len(members):
        landed: list[int] = []
        try:
            for index, result in attempt(members):
                landed.append(index)
                yield int(members[index]), result
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            shrink(error)
        else:
            return
        members = np.delete(members, landed)
