"""One worker as the search sees it: a process, and what it was given to do."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from planner.workers.messages import Hired, Task

SILENT_SECONDS = 120.0
"""After which a worker that gave no sign of life is taken for dead."""
_CLOSING_SECONDS = 5.0


class Worker:
    """A process that scores.

    It is a fresh interpreter, whatever script or notebook the search runs in.

    Args:
        program: Arguments of the interpreter, to which the number of a socket is added.
        spec: What it scores.
        threads: Of torch.
    """

    def __init__(self, program: Sequence[str], spec: object, threads: int) -> None:
        ours, theirs = socket.socketpair()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
        # read when torch is imported
        environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", *program, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **environment},
                process_group=0,  # what stops the search by its keyboard is not for the worker
            )
        self.connection = Connection(ours.detach())
        self.in_flight: list[Task] = []
        """What it was given and has not done, the first of which it works on."""
        self.is_asked = False
        """Whether it was asked to give something up, and has not answered."""
        self.is_ready = False
        self.heard = time.monotonic()
        """When it last gave a sign of life."""
        self.say(Hired(spec=spec, threads=threads))

    @property
    def pid(self) -> int:
        """Number of its process."""
        return self._process.pid

    @property
    def is_silent(self) -> bool:
        """Whether it gave no sign of life for too long."""
        return time.monotonic() - self.heard > SILENT_SECONDS

    def give(self, task: Task, windows_at_once: Mapping[Hashable, int]) -> None:
        """Give it a task.

        Args:
            task: It works on others before this one, if it has any.
            windows_at_once: Most that memory sufficed for so far, by text.
        """
        task = replace(task, windows_at_once=windows_at_once.get(task.text))
        self.in_flight.append(task)
        self.say(task)  # if it is dead, its connection will say so

    def say(self, message: object) -> bool:
        """Send a message; return whether it was alive to take it."""
        try:
            self.connection.send(message)
        except OSError:
            return False
        return True

    def end(self, *, kindly: bool) -> str:
        """End the process, if it has not ended, and return how it did.

        Args:
            kindly: Whether to let it end by itself, a little while.
        """
        self.connection.close()
        try:
            self._process.wait(_CLOSING_SECONDS if kindly else 0.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        status = self._process.returncode
        with self._complaints as file:
            file.seek(0)
            lines = file.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if status >= 0:
            return f"exit status {status}{f', {last[:80]}' if last else ''}"
        note = ", as when memory runs out" if status == -signal.SIGKILL else ""
        return f"signal {-status}{note}"
