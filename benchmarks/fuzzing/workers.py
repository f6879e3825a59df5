"""Workers: processes of the planner of one checkout, each of which runs command after command."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
HERE = Path(__file__).resolve().parents[2]
"""The checkout that this file is in."""
WORKERS = 2
"""At work at once."""
IDLE_SECONDS, PROCESSOR_SECONDS = 30, 20
"""What a command may take without a processor, and of one."""
_LIBRARIES = """
accelerate datasets evaluators gguf huggingface_hub jsonargparse matplotlib moocore numpy optuna
pandas planner pyarrow pydantic pymoo safetensors scipy search_spaces tokenizers torch tqdm
transformers yaml zstandard
"""
"""What a command that has run shows to be worth importing."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended."""

    status: int
    """Exit status; negative: the signal that ended it."""
    timed_out: bool
    seconds: float
    """Of a processor."""
    out: str
    err: str


class Worker:
    """A process that has imported the planner, and forks for each command.

    Args:
        checkout: Whose packages are run.
        cache: Folder that libraries may fill, shared by all commands.
    """

    def __init__(self, checkout: Path, cache: Path) -> None:
        self._checkout, self._cache = checkout, cache
        script = Path(__file__).with_name("worker.py")
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        places = {
            "PYTHONPATH": str(checkout),
            "HF_HOME": str(cache / "hf"),
            "XDG_CACHE_HOME": str(cache),
            "MPLCONFIGDIR": str(cache / "matplotlib"),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **one, **offline, **places},
            start_new_session=True,  # Ctrl-C is for the parent, which ends this
        )

    def __enter__(self) -> Self:
        loaded = Path(self._ask(modules=["planner.cli.main", "torch", "transformers"])["planner"])
        if not loaded.is_relative_to(self._checkout.resolve()):
            raise RuntimeError(f"the planner of {self._checkout} is wanted, got {loaded}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, words: Sequence[str], place: Path, **order: Any) -> Outcome:
        """Run a command in ``place/work`` with ``place/home`` as its home.

        Args:
            words: After ``planner``.
            place: Its folder, in which ``stdout`` and ``stderr`` are left.
            order: What else the process is told, such as a signal to send.
        """
        for name in ("work", "home"):
            (place / name).mkdir(parents=True, exist_ok=True)
        limits = {"idle_seconds": IDLE_SECONDS, "processor_seconds": PROCESSOR_SECONDS}
        reply = self._ask(words=list(words), place=str(place), **(limits | order))
        out, err = (
            (place / name).read_bytes().decode("utf-8", "backslashreplace")
            for name in ("stdout", "stderr")
        )
        return Outcome(**reply, out=out, err=err)

    def learn(self, commands: Sequence[Sequence[str]], place: Path) -> None:
        """Run commands that must succeed, and import all that they imported."""
        names = place / "modules"
        for words in commands:
            outcome = self.run(words, place, modules_to=str(names), processor_seconds=120)
            if outcome.status:
                raise RuntimeError(f"`planner {' '.join(words)}` failed: {outcome.err[-2000:]}")
            found = names.read_text(encoding="utf-8").split("\n")
            libraries = _LIBRARIES.split()
            self._ask(modules=[name for name in found if name.partition(".")[0] in libraries])

    def _ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        reply: dict[str, Any] = json.loads(self._process.stdout.readline())
        return reply


def try_all(
    items: Sequence[Item],
    attempt: Callable[[Item, Worker], Result],
    note: Callable[[Result, int], None],
    start: Callable[[], AbstractContextManager[Worker]],
) -> list[Result]:
    """Try items by workers at once, each the next one that is left.

    Args:
        items: What is tried.
        attempt: Tries one.
        note: Told of each result, and how many there are; of one at a time.
        start: Makes a worker.

    Returns:
        The results, in the order in which they came.

    Raises:
        RuntimeError: If workers failed, so that some items are left.
    """
    left, results, lock = iter(items), list[Result](), threading.Lock()

    def take() -> list[Item]:
        with lock:
            return list(islice(left, 1))

    def work() -> None:
        with start() as worker:
            while taken := take():
                result = attempt(taken[0], worker)
                with lock:
                    results.append(result)
                    note(result, len(results))

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(results) < len(items):
        raise RuntimeError(f"{len(items) - len(results)} were not tried; see above")
    return results
