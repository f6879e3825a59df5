"""A worker that writes down which layers it reads from disk, and when it is ready to score."""

import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from planner.workers.scoring_process import open_desk
from planner.workers.serving import Desk, serve
from search_spaces.models.streaming import LayerStream

LOG = "PLANNER_LAYERS_READ"
"""Environment variable with the path of the log."""
READY = "ready"


def layers_read(log: Path) -> dict[int, tuple[list[int], list[int]]]:
    """Layers that each process read before it was ready and after that, in order."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    ready: set[str] = set()
    for line in log.read_text().splitlines():
        process, what = line.split()
        if what == READY:
            ready.add(process)
        else:
            found.setdefault(int(process), ([], []))[process in ready].append(int(what))
    return found


def _note(what: object) -> None:
    with Path(os.environ[LOG]).open("a") as file:
        file.write(f"{os.getpid()} {what}\n")


def _open_desk(spec: object, threads: int) -> Desk:
    desk = open_desk(spec, threads)
    _note(READY)
    return desk


if __name__ == "__main__":
    read = LayerStream._read

    def counted(stream: LayerStream, index: int) -> None:
        _note(index)
        read(stream, index)

    LayerStream._read = counted  # type: ignore[method-assign, assignment]
    serve(Connection(int(sys.argv[1])), _open_desk)
