from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from benchmarks.fuzzing.workers import WORKERS, Worker, try_all


class Crew:
    """Starts workers that do nothing, and counts them."""

    def __init__(self) -> None:
        self.started = self.ended = 0

    @contextmanager
    def start(self) -> Iterator[Worker]:
        self.started += 1
        try:
            yield cast("Any", None)
        finally:
            self.ended += 1


def test_every_item_is_tried_once_and_told_of() -> None:
    crew, told = Crew(), list[tuple[int, int]]()
    found = try_all(
        range(40), lambda item, _: item**2, lambda *what: told.append(what), crew.start
    )
    assert sorted(found) == [item**2 for item in range(40)]
    assert told == list(zip(found, range(1, 41), strict=True))
    assert (crew.started, crew.ended) == (WORKERS, WORKERS)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_items_that_failed_workers_leave_are_no_success() -> None:
    def attempt(item: int, _worker: Worker) -> int:
        if item >= 3:
            raise OSError(f"worker of {item} broke")
        return item

    crew = Crew()
    with pytest.raises(RuntimeError, match="7 were not tried"):
        try_all(range(10), attempt, lambda *_: None, crew.start)
    assert crew.ended == WORKERS
