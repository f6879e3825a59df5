"""The one guard at the edge of the command line: signals, streams, and what may end a command.

A command prints to standard output when its results are on disk, and what it printed is written
in one go. The few expected errors of the operating system and of memory become a sentence; any
other is a defect, which shows its traceback.
"""

import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from types import TracebackType

DEFECT = "this is a defect of the planner; please report it with the lines above"
MOST_LETTERS = 300
"""Of a message, if that can be reached by shortening the names in it."""
_MOST_LETTERS_OF_A_NAME = 70
_OF_SIGNALS = 128
"""Added to a signal's number, as shells do."""
_SIGNALS = tuple(getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n))


class Stopped(KeyboardInterrupt):
    """A signal that asks the command to end; what Ctrl-C does, and ``kill``."""


def guarded(run: Callable[[], int], *, remedy: str = "", shows_traceback: bool = False) -> int:
    """Run a command, and tell what ended it.

    Args:
        run: The command; returns its exit status.
        remedy: How to go on after it was stopped, if that can be.
        shows_traceback: Whether tracebacks are shown of expected errors too.

    Returns:
        The exit status: the command's own, 1 for a defect, 2 for a mistake, or that of a signal.
    """
    printed, stopped_by = Printed(sys.stdout), list[int]()
    error: BaseException | None = None
    with _open_streams(), _signals(stopped_by) as heeded:
        try:
            with redirect_stdout(printed):
                status = run()
        except SystemExit as finished:  # after the help
            status = finished.code if isinstance(finished.code, int) else 0
        except BaseException as caught:  # noqa: BLE001  (told below, whatever it is)
            error, status = caught, 1
        for number in heeded:  # what comes now ends the process at once, and quietly
            signal.signal(number, signal.SIG_DFL)
        undelivered = _deliver(printed.delivered())
        if error is not None:
            return _explain(error, stopped_by, remedy, shows_traceback=shows_traceback)
        return status if undelivered is None else undelivered


class Printed(StringIO):
    """What a command prints to standard output, kept until it ends.

    Args:
        stream: Standard output.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._is_terminal = stream is not None and not stream.closed and stream.isatty()
        self._styled: list[tuple[int, int]] = []

    def isatty(self) -> bool:
        return self._is_terminal

    def write_styled(self, text: str) -> None:
        """Write text with codes of colours in it, which a terminal is to obey."""
        start = self.tell()
        self.write(text)
        self._styled.append((start, self.tell()))

    def delivered(self) -> str:
        """Return all of it, with nothing else in it that a terminal obeys."""
        text, parts, end = self.getvalue(), [], 0
        for start, stop in self._styled:
            parts += [printable(text[end:start]), text[start:stop]]
            end = stop
        return "".join([*parts, printable(text[end:])])


def _explain(
    error: BaseException, stopped_by: list[int], remedy: str, *, shows_traceback: bool
) -> int:
    """Say on standard error why a command ended, and return its exit status."""
    is_stopped = bool(stopped_by) or isinstance(error, KeyboardInterrupt)
    sentence = "stopped" + f"; {remedy}" * bool(remedy) if is_stopped else _expected(error)
    if shows_traceback or sentence is None:
        traceback.print_exception(error)
    if is_stopped:
        _say(sentence or DEFECT)
        return _OF_SIGNALS + (stopped_by[0] if stopped_by else signal.SIGINT)
    from search_spaces.errors import PlannerError, VerificationError

    if isinstance(error, PlannerError):
        for command in getattr(error, "__notes__", ()):
            print(f"  {printable(command)}", file=sys.stderr)
    _say(sentence or DEFECT)
    is_ours = sentence is None or isinstance(error, VerificationError)
    return 1 if is_ours or type(error) is PlannerError else 2


def _expected(error: BaseException) -> str | None:
    """Return the sentence for an expected error, or `None` for a defect."""
    if _is_out_of_memory(error):  # first, for the rest imports
        return (
            "the memory must be enough for the model and the settings, got too little; free some, "
            "or lower what the command works on at once, such as `--window_tokens`"
        )
    from search_spaces.atomic_files import REMEDIES
    from search_spaces.errors import PlannerError

    if isinstance(error, PlannerError):
        return str(error)
    if isinstance(error, FileNotFoundError) and "usable temporary directory" in str(error):
        return (
            "there must be a folder for temporary files that can be written to, got none; set "
            "`TMPDIR` to one"
        )
    if isinstance(error, OSError) and error.errno in REMEDIES:
        is_named = isinstance(error.filename, str | bytes | os.PathLike) and error.filename
        name = f"`{os.fsdecode(error.filename)}`" if is_named else "a file"
        reason, remedy = os.strerror(error.errno), REMEDIES[error.errno]
        if isinstance(error, PermissionError):  # to read, where what is written says so itself
            remedy = "change its permissions, or those of its folder"
        return f"{name} must be one that can be used, got: {reason}; {remedy}"
    if isinstance(error, RecursionError) and _is_in_a_parser(error.__traceback__):
        return "a file must hold few lists inside each other, got too many; write it flatter"
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    if isinstance(error, ImportError):  # a library whose code finds no room
        return bool(re.search("cannot allocate memory|failed to map segment", str(error), re.I))
    if "torch" not in sys.modules:
        return False
    from search_spaces.models.memory import is_out_of_memory

    return is_out_of_memory(error)


def _is_in_a_parser(trace: "TracebackType | None") -> bool:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = str(trace.tb_frame.f_globals.get("__name__")) if trace else ""
    return module.partition(".")[0] in ("json", "yaml")


def _say(text: str) -> None:
    """Print a message in one line, with nothing in it that a terminal obeys."""
    line = printable(" ".join(text.split()))
    if len(line) > MOST_LETTERS:
        line = re.sub(r"`[^`]+`|(?<= )'[^']+'(?!\w)", _shortened, line)
    print(f"planner: {line}", file=sys.stderr)


def printable(text: str) -> str:
    r"""Return text whose signs that have no shape are written as Python does, lines apart.

    >>> printable("a\tb\n")
    'a\\tb\n'
    """
    shaped = (c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    return text if text.isprintable() else "".join(shaped)


def _shortened(match: re.Match[str]) -> str:
    name, half = match[0], _MOST_LETTERS_OF_A_NAME // 2
    return name if len(name) <= 2 * half else f"{name[:half]}…{name[-half:]}"


def _deliver(text: str) -> int | None:
    """Write to standard output what a command printed.

    Returns:
        The exit status if it cannot be written; `None` if it is.
    """
    stream = sys.stdout
    if stream is None or not text:
        return None
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except BrokenPipeError:  # the reader has seen enough
        _abandon(stream)
        return _OF_SIGNALS + int(signal.SIGPIPE)
    except OSError as error:
        _abandon(stream)
        reason = os.strerror(error.errno) if error.errno else "it is closed"
        _say(f"standard output must be writable, got: {reason}; print to another place")
        return 2
    return None


def _abandon(stream: TextIO) -> None:
    """Let what is left in a stream go nowhere, or Python complains at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def _open_streams() -> Iterator[None]:
    """Open what is closed of the standard streams, and let nothing fail for progress unseen."""
    for number in range(3):  # or the next file that is opened becomes standard output
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    with ExitStack() as stack:
        stream = sys.stderr
        if stream is None:
            stream = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        stack.enter_context(redirect_stderr(cast("TextIO", _Unfailing(stream))))
        yield


class _Unfailing:
    """A stream whose reader may leave: what cannot be written is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError:
            return len(text)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _signals(caught: list[int]) -> Iterator[Collection[int]]:
    """Raise `Stopped` for each signal that asks to end, and note it; yields their numbers.

    Noted, for a library may turn the interruption into an error of its own.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        raise Stopped

    before: dict[int, Any] = {}
    try:
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
                before[number] = signal.signal(number, stop)
    except ValueError:  # not the main thread: signals are somebody else's
        before.clear()
    try:
        yield before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
