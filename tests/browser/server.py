"""The page as users start it: ``planner browse`` in a process of its own."""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_ADDRESS = re.compile(r"http://\S+")
_MOST_SECONDS = 60.0


@dataclass
class Server:
    """A running page."""

    url: str
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    """What it printed."""

    @property
    def pid(self) -> int:
        return self.process.pid


@contextmanager
def serving(
    folder: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Serve the runs in a folder, on a port that is free, until the block ends.

    Args:
        folder: With runs.
        options: Of the command.
        environment: What is added to that of the server.
    """
    command = [sys.executable, "-m", "planner", "browse", str(folder), "--no_browser"]
    process = subprocess.Popen(
        [*command, f"--port={free_port()}", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
    )
    try:
        yield _listening(process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _listening(process: subprocess.Popen[str]) -> Server:
    """Return a server once it says where it listens; what it says later is read, too."""
    server, listens = Server(url="", process=process), threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            server.lines.append(line)
            address = _ADDRESS.search(line)
            if address and not server.url:
                server.url = address[0].rstrip(".,;")
                listens.set()
        listens.set()  # it ended

    threading.Thread(target=read, daemon=True).start()
    listens.wait(_MOST_SECONDS)
    assert server.url, f"`planner browse` did not say where it listens: {''.join(server.lines)}"
    return server
