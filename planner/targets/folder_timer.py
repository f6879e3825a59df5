"""Timing written models where a runtime is loaded and nothing else of a model.

``python -P -m planner.targets.folder_timer TARGET MODULE …`` makes a target and imports what
serves it. Then it reads a `TimingRequest` a line and answers each with a line, a `Latency` or
nothing where it failed, from a fork of its own: no model finds what another left behind.
"""

import importlib
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn, Self

from pydantic import BaseModel, ConfigDict

from evaluators.latency.workload import Latency, Workload
from planner.targets.target_names import TargetChoice
from search_spaces.errors import VerificationError

if TYPE_CHECKING:
    from planner.targets.target import Target

_LAST_WORDS = 300
"""Signs of what a process that failed wrote last."""


class TimingRequest(BaseModel):
    """Ask how long a request to a written model takes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    folder: Path
    threads: int
    workload: Workload
    repeats: int = 2
    """Requests, of which the median is taken, after one short one that is not counted."""


class FolderTimer:
    """A process that times what targets wrote, for as long as it is entered.

    Args:
        target: Of all that is timed.
    """

    def __init__(self, target: "Target") -> None:
        self._name = target.name
        self._arguments = [target.choice.model_dump_json(), *target.modules]

    def __enter__(self) -> Self:
        self._log: IO[bytes] = tempfile.TemporaryFile()
        # -P: a module of the folder that the user is in takes no other's place
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "planner.targets.folder_timer", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # its input ends, and it too
        self._log.close()

    def time(self, request: TimingRequest) -> Latency:
        """Time what a target wrote.

        Raises:
            VerificationError: If the runtime does not take it.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            print(request.model_dump_json(), file=stdin, flush=True)
            reply = stdout.readline().strip()
        except BrokenPipeError:  # it was ended
            reply = ""
        if not reply:
            raise VerificationError(
                f"the runtime of `{self._name}` must run layers of the model to time "
                "them, and does not; please report this model"
            ) from RuntimeError(self._last_words())
        return Latency.model_validate_json(reply)

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LAST_WORDS))
        return self._log.read().decode("utf-8", "replace")


def main() -> None:
    """Answer requests until the input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no reply
    choice, *modules = sys.argv[1:]
    target = TargetChoice.model_validate_json(choice).make()
    for name in modules:
        importlib.import_module(name)
    for line in sys.stdin:
        answer, place = os.pipe()
        child = os.fork()
        if child == 0:
            _answer(target, line, place)
        os.close(place)
        with os.fdopen(answer, encoding="utf-8") as reply:
            print(reply.read(), file=replies, flush=True)
        os.waitpid(child, 0)


def _answer(target: "Target", line: str, place: int) -> NoReturn:
    """Answer a request in this process, and end it."""
    try:
        latency = _timed(target, TimingRequest.model_validate_json(line))
        os.write(place, latency.model_dump_json().encode())
    except BaseException:  # noqa: BLE001  (told to who reads the log)
        traceback.print_exc()
    os._exit(0)


def _timed(target: "Target", request: TimingRequest) -> Latency:
    workload = request.workload
    short = workload.model_copy(update={"new_tokens": min(1, workload.new_tokens)})
    with target.serve(request.folder, threads=request.threads) as served:
        served.time(short)
        return Latency.median([served.time(workload) for _ in range(request.repeats)])


if __name__ == "__main__":
    main()
