"""Progress in a file, and on a terminal that a test looks at."""

import logging
from collections.abc import Callable
from contextlib import redirect_stderr

import pytest

from planner.cli import terminal
from planner.cli.terminal import Terminal, error_console, show_notices
from tests.planner.cli.screens import Screen

Clock = Callable[[float], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets the time; it is 0 at first."""
    now = [0.0]
    monkeypatch.setattr("planner.cli.terminal.time.monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_a_file_gets_a_line_a_stage_and_one_in_ten_seconds(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with Terminal() as progress:
        progress.stage("searching")
        progress.advance(1, 100)
        clock(10.0)
        progress.advance(10, 100)
        progress.note("KL 0.1 within params<=0.7x")
        clock(19.9)
        progress.advance(90, 100)
        clock(20.0)
        progress.advance(91, 100)
        progress.advance(100, 100)
        progress.stage("re-scoring")
    assert capsys.readouterr().err.splitlines() == [
        "searching …",
        "searching: 10%",
        "searching: 91% · KL 0.1 within params<=0.7x",
        "searching: 100% · KL 0.1 within params<=0.7x",
        "re-scoring …",
    ]


def test_nothing_in_a_name_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal() as progress:
        progress.stage("loading \x1b[2J[bold]x")
        progress.note("a long line " * 30 + "\x1b]0;title\x07")
    printed = capsys.readouterr().err
    assert "\x1b" not in printed
    assert "loading \\x1b[2J[bold]x …" in printed
    assert len(printed.splitlines()) == 2  # none is cut, none is folded


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    shown = Screen()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    # a console of its own: it asks what a terminal can do but once
    monkeypatch.setattr(terminal, "error_console", error_console.__wrapped__)
    return shown


def test_a_terminal_shows_bar_share_clock_and_note(screen: Screen, clock: Clock) -> None:
    with redirect_stderr(screen), Terminal() as progress:
        progress.stage("searching")
        progress.advance(43, 100)
        progress.note("KL 0.083 ± 0.004 within params<=0.7x · 214 plans")
        clock(133.0)
    last = screen.getvalue().splitlines()[-3:]
    assert any("searching" in line and "43%" in line and "2:13" in line for line in last)
    assert any("KL 0.083 ± 0.004 within params<=0.7x · 214 plans" in line for line in last)
    assert screen.getvalue().rindex("\x1b[?25h") > screen.getvalue().rindex("\x1b[?25l")


def test_time_left_is_told_where_nothing_else_is(screen: Screen, clock: Clock) -> None:
    with redirect_stderr(screen), Terminal() as progress:
        progress.stage("measuring")
        progress.advance(1, 4)
        clock(30.0)
    assert "0:30, 1:30 left" in screen.getvalue()


def test_a_notice_stands_above_and_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    show_notices()
    logging.getLogger("planner.x").info("one line with [brackets]")
    logging.getLogger("other").warning("from a library")
    assert capsys.readouterr().err.splitlines() == [
        "one line with [brackets]",
        "WARNING other: from a library",
    ]
