"""The fresh process: it has loaded a runtime and nothing of a model, and forks for each trial.

``python -P -m planner.targets.trial_server TARGET MODULE …`` makes a target and imports what
serves it, then reads names of folders from its input, one a line, each with a ``request.json``.
For each it prints the exit status of a process of its own that does what is asked: no model finds
what another left behind. ``error.json`` says why one failed.
"""

import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from pydantic import TypeAdapter

from planner.targets.target_names import TargetChoice
from planner.targets.trial import ProofRequest, ServiceRequest, try_model
from search_spaces.errors import PlannerError
from search_spaces.models.memory import is_out_of_memory

_REQUEST: TypeAdapter[ProofRequest | ServiceRequest] = TypeAdapter(ProofRequest | ServiceRequest)


def main() -> None:
    """Serve requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this process ends it
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no reply
    choice, *modules = sys.argv[1:]
    TargetChoice.model_validate_json(choice).make()  # what that imports, each trial needs
    for name in modules:
        importlib.import_module(name)
    for line in sys.stdin:
        print(_status_of(Path(line.rstrip("\n"))), file=replies, flush=True)


def _status_of(place: Path) -> int:
    """Return the exit status of a trial; below zero: the signal that ended it."""
    child = os.fork()
    if child == 0:
        os._exit(_run(place))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _run(place: Path) -> int:
    try:
        text = (place / "request.json").read_text(encoding="utf-8")
        try_model(_REQUEST.validate_json(text), place)
    except BaseException as error:  # noqa: BLE001  (told to the process that asked)
        answer = {"kind": _kind(error), "message": str(error), "trace": traceback.format_exc()}
        (place / "error.json").write_text(json.dumps(answer), encoding="utf-8")
        return 1
    return 0


def _kind(error: BaseException) -> str:
    """Return how the process that asked should take an error."""
    if is_out_of_memory(error):
        return "memory"
    return type(error).__name__ if isinstance(error, PlannerError) else "bug"


if __name__ == "__main__":
    main()
