"""A process that imports the planner once, and forks for each command that it is told to run.

It is started as a script, by any checkout's packages: nothing else of this project is imported.
Orders come as JSON, a line each, and are answered so.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

MEMORY, FILE = 4 * 2**30, 2**30
"""Bytes that a command may take beyond what is imported, and of a file that it writes."""
PR_SET_PDEATHSIG = 1
IDLE = 0.02
"""Seconds of a processor, less than which is nothing."""


def main() -> None:
    """Answer orders until there are no more."""
    _end_with_the_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries that print are no answers
    for line in sys.stdin:
        order = json.loads(line)
        reply = _import(order["modules"]) if "modules" in order else _run(order)
        print(json.dumps(reply), file=answers, flush=True)


def _end_with_the_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _import(names: list[str]) -> dict[str, Any]:
    for name in names:
        with contextlib.suppress(ImportError, AttributeError, RuntimeError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    return {"planner": importlib.import_module("planner").__file__}


def _run(order: dict[str, Any]) -> dict[str, Any]:
    child = os.fork()
    if not child:
        _become(order)
    watched = os.pidfd_open(child)
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    ended = "signal_after" in order and poll.poll(1000 * order["signal_after"])
    if "signal_after" in order and not ended:
        os.kill(child, order["signal"])
    taken = -1.0
    while not (ended := poll.poll(1000 * order["idle_seconds"])):  # on a busy machine it may wait
        before, taken = taken, _processor_seconds(child)
        if taken - before < IDLE:
            os.killpg(child, signal.SIGKILL)
            break
    _, status, used = os.wait4(child, 0)
    os.close(watched)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # whatever it started
    return {
        "status": os.waitstatus_to_exitcode(status),
        "timed_out": not ended,
        "seconds": used.ru_utime + used.ru_stime,
    }


def _processor_seconds(process: int) -> float:
    words = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _become(order: dict[str, Any]) -> None:
    """Be the command, in a folder of its own, and end."""
    os.setsid()
    _end_with_the_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    place = Path(order["place"])
    for number, name in enumerate((Path("/dev/null"), place / "stdout", place / "stderr")):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, flags), number)
    os.chdir(place / "work")
    os.environ["HOME"] = str(place / "home")
    taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * 4096
    for kind, limit in (
        (resource.RLIMIT_AS, taken + MEMORY),
        (resource.RLIMIT_FSIZE, FILE),
        (resource.RLIMIT_CPU, order["processor_seconds"]),
    ):
        resource.setrlimit(kind, (limit, limit))
    if "hook" in order:
        sys.path.append(str(Path(__file__).parent))
        importlib.import_module("hooks").install(**order["hook"])
    sys.argv = ["planner", *order["words"]]
    status = _status()
    if "modules_to" in order:
        Path(order["modules_to"]).write_text("\n".join(sys.modules), encoding="utf-8")
    with contextlib.suppress(OSError, ValueError):
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _status() -> int:
    """Run the command as its script does, and return what Python would make of its end."""
    try:
        return int(importlib.import_module("planner.cli.main").main() or 0)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001  (Python itself would show it)
        traceback.print_exc()
    return 1


if __name__ == "__main__":
    main()
