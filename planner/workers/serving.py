"""A worker's own side: it takes tasks one by one and answers as candidates land."""

import logging
import os
import pickle
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from evaluators.backends.handover import Handover
from planner.workers.messages import (
    Alive,
    Cancel,
    Done,
    Expect,
    GivenUp,
    GiveUp,
    Hired,
    Landed,
    Ready,
    Refused,
    Task,
    Warned,
)
from search_spaces.errors import InputError

BEAT_SECONDS = 5.0
"""Between two signs of life."""


class Wire(Protocol):
    """A connection to the search, such as one of `multiprocessing`."""

    def send(self, message: Any, /) -> None:
        """Send a message, pickled.

        Raises:
            OSError: If the search is gone.
        """
        ...

    def recv_bytes(self) -> bytes:
        """Return the next message, still pickled.

        Raises:
            OSError: If the search is gone.
            EOFError: If the search is gone.
        """
        ...


class Scoring(Protocol):
    """What a worker scores with on one text: a scoring backend in its own process."""

    @property
    def windows_at_once(self) -> int:
        """Windows that are run at once."""
        ...

    def shrink_to(self, windows: int) -> None:
        """Run no more windows at once than this."""
        ...


class Desk(Protocol):
    """All that a worker holds."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What is scored, which must be what the search scores."""
        ...

    def scoring(self, text: object) -> Scoring:
        """Return what scores on a text; one of these is in memory at a time."""
        ...


def serve(connection: Wire, open_desk: Callable[[Any, int], Desk]) -> None:
    """Work until the search hangs up.

    Args:
        connection: To the search.
        open_desk: Given what is to be scored and a number of threads, returns all that it takes.
    """
    if threading.current_thread() is threading.main_thread():  # else Ray heeds signals
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the search says when to stop
    line = _Line(connection)
    try:
        hired = line.next()
        assert isinstance(hired, Hired), "that is the first that is said"
        desk = open_desk(hired.spec, hired.threads)
        line.say(Ready(facts=desk.facts))
        while True:
            match line.next():
                case Task() as task:
                    _work(line, desk.scoring(task.text), task)
                    del line.handovers[task.number]
                case Expect() as expected:
                    scoring: Any = desk.scoring(expected.text)
                    scoring.expect(expected.parents)
    except InputError as error:
        notes = tuple(getattr(error, "__notes__", ()))
        line.say(Refused(text=str(error), notes=notes, is_mistake=True))
    except Exception:  # noqa: BLE001  (told to the search, which raises it)
        line.say(Refused(text=f"a worker failed\n{traceback.format_exc()}"))


def _work(line: "_Line", scoring: Scoring, task: Task) -> None:
    if task.number <= line.cancelled:
        return
    if task.windows_at_once is not None:
        scoring.shrink_to(task.windows_at_once)
    for member, result in _results(scoring, task, line.handovers[task.number]):
        if task.number <= line.cancelled:
            return
        line.say(Landed(number=task.number, member=member, result=result))
    at_once = scoring.windows_at_once
    line.say(Done(number=task.number, text=task.text, windows_at_once=at_once))


def _results(scoring: Scoring, task: Task, handover: Handover) -> Iterator[tuple[int, Any]]:
    """Yield what comes of the candidates of a task that nobody else has taken over."""
    shared = {} if task.work is None else {"keep": handover.keep}
    members = np.arange(len(task.configurations))
    # those of a task that cannot be shared out are begun together
    if len(handover.keep(members, task.work is None)):
        method: Callable[..., Iterator[tuple[int, Any]]] = getattr(scoring, task.method)
        yield from method(task.configurations, **task.arguments, **task.of_each, **shared)


class _Line:
    """The connection to the search, read by a thread of its own so that it is never full.

    Args:
        connection: To the search.
    """

    def __init__(self, connection: Wire) -> None:
        self._connection = connection
        self._heard: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._asked: queue.SimpleQueue[GiveUp] = queue.SimpleQueue()
        self._speaking = threading.Lock()
        self.cancelled = -1
        """Tasks up to this one are not waited for any more."""
        self.handovers: dict[int, Handover] = {}
        """What others take over of each task that was given and is not done."""
        for run in (self._listen, self._answer, self._beat):
            threading.Thread(target=run, daemon=True).start()
        handler = _Telling(self)
        handler.setLevel(logging.WARNING)
        for name in ("planner", "evaluators", "search_spaces"):
            logging.getLogger(name).addHandler(handler)

    def next(self) -> object:
        """Return the next task, or what is expected, in the order in which they were said."""
        return self._heard.get()

    def say(self, message: object) -> None:
        """Send a message; without a search there is nothing left to do."""
        with self._speaking:
            self._send(message)

    def _send(self, message: object) -> None:
        try:
            self._connection.send(message)
        except OSError:
            os._exit(0)

    def _listen(self) -> None:
        while True:
            try:
                content = self._connection.recv_bytes()
            except (EOFError, OSError):
                os._exit(0)  # the search is gone, and whatever runs here is for nobody
            try:
                message = pickle.loads(content)  # what it is of is imported
            except Exception:  # noqa: BLE001  (told to the search, which raises it)
                self.say(Refused(text=f"a worker failed\n{traceback.format_exc()}"))
                return
            match message:
                case Cancel():
                    self.cancelled = message.number
                case GiveUp():
                    self._asked.put(message)
                case _:
                    if isinstance(message, Task):
                        count = len(message.configurations)
                        self.handovers[message.number] = Handover(count, message.work)
                    self._heard.put(message)

    def _answer(self) -> None:
        """Give up what was asked for, while the tasks themselves are worked on."""
        while True:
            asked = self._asked.get()
            with self._speaking:  # so that no task is said to be done in between
                handover = self.handovers.get(asked.number)
                given = handover.give_up() if handover else []
                self._send(GivenUp(number=asked.number, members=given))

    def _beat(self) -> None:
        while True:
            self.say(Alive())
            time.sleep(BEAT_SECONDS)


class _Telling(logging.Handler):
    """Passes on what a worker has to say, for the search shows it."""

    def __init__(self, line: _Line) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        self._line.say(Warned(logger=record.name, text=record.getMessage()))
