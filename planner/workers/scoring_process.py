"""The program of a worker that scores candidates of a run: ``python -m`` and a socket's number."""

import sys
from multiprocessing.connection import Connection

from planner.workers.serving import Desk, serve


def open_desk(spec: object, threads: int) -> Desk:
    """Open a run that is to be scored; see `serve`."""
    # torch takes seconds, in which the worker already gives signs of life
    from planner.workers.scored_run import OpenedRun, ScoredRun  # noqa: PLC0415

    assert isinstance(spec, ScoredRun), "that is what this program scores"
    return OpenedRun.of(spec, threads)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), open_desk)
