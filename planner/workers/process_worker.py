"""A worker that is a process on this machine, at the other end of a socket."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from pathlib import Path

from planner.workers.messages import Hired
from planner.workers.worker import Worker

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that are read when torch is imported."""
_CLOSING_SECONDS = 5.0


class ProcessWorker(Worker):
    """A process that scores.

    It is a fresh interpreter, whatever script or notebook the search runs in.

    Args:
        program: Arguments of the interpreter, to which the number of a socket is added.
        spec: What it scores.
        threads: Of torch.

    Raises:
        OSError: If no process can be started.
    """

    def __init__(self, program: Sequence[str], spec: object, threads: int) -> None:
        super().__init__()
        ours, theirs = socket.socketpair()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
        environment = dict.fromkeys(THREAD_VARIABLES, str(threads))
        environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        with ExitStack() as opened, theirs:
            opened.enter_context(ours)
            opened.enter_context(self._complaints)
            self._process = subprocess.Popen(
                [sys.executable, "-P", *program, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **environment},
                process_group=0,  # what stops the search by its keyboard is not for the worker
            )
            opened.pop_all()
        self.connection = Connection(ours.detach())
        self.say(Hired(spec=spec, threads=threads))

    @property
    def pid(self) -> int:
        """Number of the process; see `Worker`."""
        return self._process.pid

    def say(self, message: object) -> None:
        """Send a message; see `Worker`."""
        try:
            self.connection.send(message)
        except OSError:
            return

    def hear(self) -> object:
        """Return the next message; see `Worker`."""
        try:
            return self.connection.recv()
        except OSError as error:
            raise EOFError from error

    def end(self, *, kindly: bool) -> str:
        """End the process; see `Worker`."""
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


def wait_for_processes(workers: Sequence[Worker], seconds: float) -> Sequence[Worker]:
    """Return those of some processes that are to be heard; see `Wait`."""
    of_connection = {
        worker.connection: worker for worker in workers if isinstance(worker, ProcessWorker)
    }
    ready = wait(list(of_connection), seconds)
    return [worker for connection, worker in of_connection.items() if connection in ready]
