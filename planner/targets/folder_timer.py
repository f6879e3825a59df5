"""Timing a written model in a process that has loaded its runtime, and nothing else of a model.

``python -P -m planner.targets.folder_timer`` reads a `TimingRequest` and prints a `Latency`.
"""

import os
import subprocess
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evaluators.latency.workload import Latency, Workload
from planner.targets.target_names import TargetChoice
from search_spaces.errors import VerificationError

_LAST_WORDS = 300
"""Signs of what a process that failed wrote last."""


class TimingRequest(BaseModel):
    """Ask how long a request to a written model takes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    target: TargetChoice
    folder: Path
    threads: int
    workload: Workload
    repeats: int = 2
    """Requests, of which the median is taken, after one short one that is not counted."""


def time_folder(request: TimingRequest) -> Latency:
    """Time what a target wrote, in a process of its own.

    Raises:
        VerificationError: If the runtime does not take it.
    """
    finished = subprocess.run(
        [sys.executable, "-P", "-m", "planner.targets.folder_timer"],
        input=request.model_dump_json(),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    if finished.returncode != 0:
        raise VerificationError(
            f"the runtime of `{request.target.name}` must time layers of the model, and its "
            f"process ended with status {finished.returncode}; please report this model"
        ) from RuntimeError(finished.stderr[-_LAST_WORDS:])
    return Latency.model_validate_json(finished.stdout)


def main() -> None:
    """Answer the request of the input."""
    reply = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no reply
    request = TimingRequest.model_validate_json(sys.stdin.read())
    target, workload = request.target.make(), request.workload
    short = workload.model_copy(update={"new_tokens": min(1, workload.new_tokens)})
    with target.serve(request.folder, threads=request.threads) as served:
        served.time(short)
        latency = Latency.median([served.time(workload) for _ in range(request.repeats)])
    print(latency.model_dump_json(), file=reply, flush=True)


if __name__ == "__main__":
    main()
