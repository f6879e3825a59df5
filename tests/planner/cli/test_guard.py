"""What ends a command: a sentence, a status, and a traceback for a defect alone."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from planner.cli.guard import DEFECT, guarded
from planner.cli.main import main
from search_spaces.errors import ModelError, VerificationError


def ended_by(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run what raises an error under the guard; give the status and what was said."""

    def run() -> int:
        raise error

    status = guarded(run, remedy="go on with --resume")
    return status, capsys.readouterr().err


def test_a_command_that_mends_it_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    command = f"planner search '{'x' * 400}' --out run"
    error = ModelError(f"`{'y' * 400}` must be whole; type the command beside this")
    error.add_note(command)
    status, text = ended_by(error, capsys)
    assert status == 2
    shown, said = text.splitlines()
    assert shown == f"  {command}"
    assert said.startswith("planner: `y")
    assert len(said) < 300


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModelError("`m` must be a model, got none; name one"), "`m` must be a model"),
        (MemoryError(), "memory must be enough"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 64 bytes"), "memory must be"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory must be enough"),
        (ImportError("x.so: failed to map segment from shared object"), "memory must be"),
        (PermissionError(errno.EACCES, "?", "secret"), "`secret` must be .* Permission denied"),
        (OSError(errno.ENOSPC, "?", "disk"), "`disk` must be .*; free some space"),
        (OSError(errno.EROFS, "?", "disk"), "`disk` must be .* not mounted read-only"),
        (OSError(errno.ENAMETOOLONG, "?", "x" * 5000), "choose a shorter name"),
        (OSError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "`TMPDIR`"),
        (OSError(errno.EIO, "?"), "a file must be .* look after the disk"),
        (OSError(errno.EACCES, "?", 7), "a file must be .*change its permissions"),
        (OSError(errno.EACCES, "?", Path("x")), "`x` must be .*change its permissions"),
        (FileNotFoundError(errno.ENOENT, "?", "run"), "`run` must be .*moves or deletes it"),
        (OSError(errno.ESTALE, "?", b"run"), "`run` must be .*network back"),
        (ModelError("a model's " + "x" * 290 + "; the user's way"), "model's x{290}; the user's"),
        (ModelError("got '" + "x" * 400 + "', the user's"), "got 'x{34}…x{34}', the user's$"),
    ],
)
def test_an_expected_error_is_a_sentence(
    error: BaseException, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = ended_by(error, capsys)
    assert status == 2
    (line,) = text.splitlines()
    assert re.search(said, line)
    assert line.startswith("planner: ")
    assert len(line) <= 330


@pytest.mark.parametrize("code", ["exit(3)", "exit()", "raise SystemExit('enough')"])
def test_code_of_a_model_does_not_end_the_planner(
    code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def ends(*_args: object, **_options: object) -> None:
        exec(code, {"exit": sys.exit})

    monkeypatch.setattr("planner.reports.inspect.inspect_model", ends)
    assert main(["inspect", str(tmp_path), "--trust_remote_code"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("planner: the code of a model must leave the process alone, and some")


@pytest.mark.parametrize("error", [ValueError("?"), KeyError("x"), OSError(errno.EBADF, "?", "x")])
def test_a_defect_shows_its_traceback_and_what_to_do(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = ended_by(error, capsys)
    assert status == 1
    assert "Traceback" in text
    assert text.endswith(f"planner: {DEFECT}\n")
    status, text = ended_by(VerificationError("it must compute"), capsys)
    assert (status, text) == (1, "planner: it must compute\n")


def test_a_file_too_deep_is_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        json.loads("[" * 100_000)
        return 0

    assert guarded(run) == 2
    assert "lists inside each other" in capsys.readouterr().err


def test_every_traceback_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--debug", "serch"], ["serch", "--debug"]):
        assert main(words) == 2
        text = capsys.readouterr().err
        assert "Traceback" in text
        assert "did you mean `search`?" in text.splitlines()[-1]
    assert main(["serch", "--", "--debug"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("is_hidden", [False, True])
def test_a_signal_stops_in_a_sentence(
    number: signal.Signals, is_hidden: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    # whoever runs the tests in the background may have them ignore it
    heeded = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    signal.signal(number, heeded)

    def run() -> int:
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        except KeyboardInterrupt as error:
            if is_hidden:  # as modules of C do that are being imported
                raise ImportError("initialization failed") from error
            raise
        return 0

    try:
        assert guarded(run, remedy="go on with --resume") == 128 + number
        assert capsys.readouterr().err == "planner: stopped; go on with --resume\n"
        assert signal.getsignal(number) is heeded
    finally:
        signal.signal(number, before)


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def run() -> int:
        os.kill(os.getpid(), signal.SIGHUP)
        return 7

    try:
        assert guarded(run) == 7
    finally:
        signal.signal(signal.SIGHUP, before)


def printing(text: str, status: int = 0) -> int:
    def run() -> int:
        sys.stdout.write(f"{text}\n")
        return status

    return guarded(run)


def test_a_terminal_of_other_letters_gets_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, "ascii"))
    assert printing("→ a ± b") == 0
    assert printed.getvalue() == b"? a ? b\n"


def test_a_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printing("a\x1b[2Jb\u202ec 😀 é") == 0
    assert capsys.readouterr().out == "a\\x1b[2Jb\\u202ec 😀 é\n"


def test_a_reader_may_leave(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w", encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert printing("text") == 128 + signal.SIGPIPE
    assert capsys.readouterr().err == ""


def test_what_cannot_be_printed_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert printing("text") == 2
    said = "standard output must be writable, got: No space left on device"
    assert said in capsys.readouterr().err


def test_progress_that_nobody_sees_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", buffering=1, encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stderr", stream)

        def run() -> int:
            for _ in range(3):
                sys.stderr.write("progress\n")
            return 5

        assert guarded(run) == 5
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ('"$0" -m planner --help >&-', 0, b""),
        ('"$0" -m planner serch 2>&-', 2, b""),
        ('"$0" -m planner serch <&- >&- 2>&-', 2, b""),
        (
            'export PYTHONPATH="$PWD" PYTHONSAFEPATH=1; mkdir "$1/gone" && cd "$1/gone" && '
            'rmdir "$1/gone" && "$0" -m planner inspect m',
            2,
            b"planner: a command must run in a folder that exists",
        ),
        ('"$0" -OO -m planner inspect m', 2, b"planner: Python must keep docstrings"),
        ('"$0" -m planner --help > /dev/full', 2, b"standard output must be writable"),
        ('set -o pipefail; "$0" -m planner --help | true', None, b""),
    ],
)
def test_processes_whose_streams_are_closed_or_full_or_whose_interpreter_is_odd(
    line: str, status: int | None, said: bytes, tmp_path: Path
) -> None:
    command = ["bash", "-c", line, sys.executable, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode in ((0, 128 + signal.SIGPIPE) if status is None else (status,))
    assert said in done.stderr
    assert not re.search(b"Traceback|Exception ignored", done.stderr)
