"""A worker's own side on Ray: an actor with a box for what it is told and one for what it says."""

import os
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

from planner.workers.own_version import own_version
from planner.workers.process_worker import THREAD_VARIABLES
from planner.workers.serving import Desk, serve

OpenDesk = Callable[[Any, int], Desk]
"""See `serve`."""


class ScoringActor:
    """Scores in a thread of its own, while Ray's threads fill one box and empty the other."""

    def __init__(self) -> None:
        self._told: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._end: str | None = None
        """How the work ended, after which `None` lies in the box."""

    def introduce(self) -> dict[str, Any]:
        """Return whose code this is and where it runs, as any other version of ours reads it."""
        return {"version": own_version(), "host": socket.gethostname(), "pid": os.getpid()}

    def begin(self, open_desk: OpenDesk, threads: int) -> None:
        """Begin to work, as `serve` does.

        Args:
            open_desk: Opens what is to be scored.
            threads: Of torch, which is not imported yet.
        """
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
        threading.Thread(target=self._work, args=(open_desk,), daemon=True).start()

    def tell(self, message: bytes) -> None:
        """Take a message of the search."""
        self._told.put(message)

    def listen(self) -> list[object]:
        """Return what there is to say, once there is something.

        Raises:
            EOFError: If the work has ended, and all was said.
        """
        said = [self._said.get()]
        while not self._said.empty():
            said.append(self._said.get())
        messages = [message for message in said if message is not None]
        if not messages:
            raise EOFError(self._end)
        if len(messages) < len(said):
            self._said.put(None)
        return messages

    def send(self, message: object) -> None:
        """Say something to the search, as a connection does."""
        if self._end is None:
            self._said.put(message)

    def recv_bytes(self) -> bytes:
        """Return what the search said next, once it did, as a connection does."""
        return self._told.get()

    def _work(self, open_desk: OpenDesk) -> None:
        end = "it had nothing left to do"
        try:
            serve(self, open_desk)
        except BaseException as error:  # noqa: BLE001  (code of a model may exit)
            end = f"{type(error).__name__}: {error}"
        self._end = end
        self._said.put(None)
