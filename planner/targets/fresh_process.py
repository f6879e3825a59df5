"""Trials of written models in a process that has loaded their runtime and nothing of a model.

What the planner holds in memory – patched classes, registered names, caches – cannot help an
export there, and a runtime that crashes takes nobody with it.
"""

import atexit
import functools
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from planner.targets.target import Target
from planner.targets.target_names import TargetChoice
from planner.targets.trial import ProofAnswer, ProofRequest, ServiceAnswer, ServiceRequest
from search_spaces import errors
from search_spaces.errors import (
    InputError,
    MissingExtraError,
    PlannerError,
    VerificationError,
)

logger = logging.getLogger(__name__)

_LAST_WORDS = 300
"""Signs of what a crashed process wrote last."""


class FreshProcess:
    """A process that waits for trials; each runs in a fork of its own, so none sees another.

    Args:
        arguments: Of `trial_server`: a target, and what it imports while it waits.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        # -P: a module of the folder that the user is in takes no other's place
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "planner.targets.trial_server", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            start_new_session=True,  # a group of its own, to be ended with what it forked
        )

    def prove(
        self, request: ProofRequest, tokens: NDArray[np.int_]
    ) -> tuple[ProofAnswer, NDArray[np.float32], NDArray[np.float32]]:
        """Return what an export writes, its logits, and those of the later tokens with a cache.

        Args:
            request: What to prove.
            tokens: Token ids ``(windows, tokens)``.

        Raises:
            VerificationError: If the runtime does not take the export.
        """
        with tempfile.TemporaryDirectory() as place:
            text = self._ask(Path(place), request, tokens)
            logits = np.load(Path(place) / "logits.npz", allow_pickle=False)
            answer = ProofAnswer.model_validate_json(text)
            return answer, logits["whole"], logits["stepped"]

    def serve(self, request: ServiceRequest, windows: NDArray[np.int_]) -> ServiceAnswer:
        """Return how well and how fast models are served.

        Args:
            request: Which models.
            windows: Token ids ``(windows, tokens)`` to read; there may be none.

        Raises:
            MemoryError: If memory ran out.
            VerificationError: If the runtime does not take a model.
        """
        with tempfile.TemporaryDirectory() as place:
            text = self._ask(Path(place), request, windows)
            return ServiceAnswer.model_validate_json(text)

    def _ask(
        self, place: Path, request: ProofRequest | ServiceRequest, tokens: NDArray[np.int_]
    ) -> str:
        """Return the answer to a request."""
        np.save(place / "tokens.npy", tokens)
        (place / "request.json").write_text(request.model_dump_json(), encoding="utf-8")
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            print(place, file=stdin, flush=True)
            reply = stdout.readline().strip()
        except BrokenPipeError:
            reply = ""
        if reply == "0":
            return (place / "answer.json").read_text(encoding="utf-8")
        raise self._error(place, request, reply)

    def _error(
        self, place: Path, request: ProofRequest | ServiceRequest, reply: str
    ) -> PlannerError | MemoryError:
        told = place / "error.json"
        if not told.is_file():
            _started.cache_clear()  # it may be no more
            name = signal.Signals(-int(reply)).name if reply.startswith("-") else "no answer"
            logger.warning("the process that tried the export wrote last: %s", self._last_words())
            return VerificationError(
                f"the runtime of a {request.target.name} export must load and run it, and its "
                f"process ended with {name}; please report this model"
            )
        answer = json.loads(told.read_text(encoding="utf-8"))
        if answer["kind"] == "memory":
            return MemoryError(answer["message"])
        kind = getattr(errors, answer["kind"], None)
        if kind is not None:
            error = InputError if issubclass(kind, MissingExtraError) else kind
            return error(answer["message"])
        raise RuntimeError(f"a trial of an export failed:\n{answer['trace']}")

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LAST_WORDS))
        return self._log.read().decode("utf-8", "replace").strip()

    def close(self) -> None:
        """End the process, with the trial that it is in."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def fresh_process(target: Target) -> FreshProcess:
    """Return the process that serves a target, begun now if there is none yet; it ends with us."""
    # with other options it imports the same
    return _started((TargetChoice(name=target.name).model_dump_json(), *target.modules))


@functools.cache
def _started(arguments: tuple[str, ...]) -> FreshProcess:
    process = FreshProcess(arguments)
    atexit.register(process.close)
    return process
