"""Workers that cannot be started, and those that can later."""

import logging
from collections.abc import Callable

import pytest

from planner.workers.messages import Ready
from planner.workers.staffing import MOST_FAILED_STARTS, Staffing
from planner.workers.worker import Worker
from search_spaces.errors import ModelError, RunError


class Idle(Worker):
    """Does nothing."""

    pid = 0

    def say(self, message: object) -> None:
        """It does not listen."""

    def hear(self) -> object:
        raise EOFError

    def end(self, *, kindly: bool) -> str:
        return "exit status 1"


def starting(*succeeds: bool) -> Callable[[], Worker]:
    """What starts workers, in vain where it says so, and then for good."""
    turns = iter(succeeds)

    def start() -> Worker:
        if not next(turns, True):
            raise BlockingIOError("Resource temporarily unavailable")
        return Idle()

    return start


def test_one_that_is_refused_by_the_machine_is_tried_again() -> None:
    staffing = Staffing(starting(True, False, False), 2)
    staffing.fill()
    assert len(staffing.workers) == 2


def test_too_many_in_vain_and_it_goes_on_with_those_that_are_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    staffing = Staffing(starting(True, *[False] * MOST_FAILED_STARTS), 2)
    with caplog.at_level(logging.WARNING):
        staffing.fill()
        staffing.fill()
    assert len(staffing.workers) == 1
    assert caplog.messages == ["going on with 1 of 2 workers (Resource temporarily unavailable)"]
    staffing.hope()
    staffing.fill()
    assert len(staffing.workers) == 2


def test_where_none_can_be_started_it_says_why() -> None:
    staffing = Staffing(starting(*[False] * MOST_FAILED_STARTS), 2)
    with pytest.raises(RunError, match=r"the last with Resource temporarily unavailable; mend"):
        staffing.fill()


def test_those_that_end_before_they_are_ready_are_starts_in_vain() -> None:
    staffing = Staffing(starting(), 2)
    for _ in range(MOST_FAILED_STARTS):
        staffing.fill()
        staffing.end(staffing.workers[0])
    assert len(staffing.workers) == 1
    staffing.fill()
    assert len(staffing.workers) == 1
    assert staffing.last_end == "exit status 1"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("the planner", "install the same on all machines"),
        ("arithmetic", "let workers be on devices of one kind, that of the search"),
        ("text", "leave files as they are while a search runs, and resume it"),
    ],
)
def test_what_is_another_is_named_with_its_machine_and_remedy(name: str, remedy: str) -> None:
    rule = (
        f"a worker on there must score what the search does, got {name} b instead of a; {remedy}"
    )
    with pytest.raises(ModelError, match=f"^{rule}$"):
        Ready(facts={name: "b"}).check({name: "a"}, " on there")
