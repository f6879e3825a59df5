"""What is printed: colours on a terminal alone, and data as data."""

import io
import json
import math
from argparse import Namespace
from contextlib import redirect_stdout

import pandas as pd
import pytest
from rich.text import Text

from planner.cli.guard import Printed
from planner.cli.printing import print_frame, print_json, show
from planner.reports.tables import front_table
from tests.planner.cli.screens import Screen


def printed(text: Text, stream: io.StringIO) -> str:
    out = Printed(stream)
    with redirect_stdout(out):
        show(text)
        out.write("and \x1b[31m more\n")
    return out.delivered()


def test_colours_are_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = Text("best", "bold green")
    assert printed(text, io.StringIO()) == "best\nand \\x1b[31m more\n"
    coloured = printed(text, Screen())
    assert coloured.startswith("\x1b[1;32mbest\x1b[0m\n")
    assert coloured.endswith("and \\x1b[31m more\n")


def test_text_that_a_terminal_would_obey_loses_its_colours() -> None:
    assert printed(Text("\x1b[2J", "bold"), Screen()).startswith("\\x1b[2J\n")


def test_marks_are_words_too() -> None:
    plan = {"kl": 0.1, "kl_se": 0.01, "params": 5e7, "params_x": 0.5}
    frame = pd.DataFrame([{"plan_id": name} | plan for name in ("a", "b", "c")])
    lines = front_table(frame, marked="a", knee="b").plain.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["→", "knee", "c"]


def test_what_is_no_number_is_null() -> None:
    moment = pd.Timestamp("2026-01-02T03:04:05Z")
    frame = pd.DataFrame({"x": [math.nan, math.inf], "n": [1, 2], "at": [moment, pd.NaT]})
    out = io.StringIO()
    with redirect_stdout(out):
        print_frame(frame, Namespace(csv=False, json=True))
    assert json.loads(out.getvalue()) == [
        {"x": None, "n": 1, "at": "2026-01-02T03:04:05+00:00"},
        {"x": None, "n": 2, "at": None},
    ]


def test_json_stays_json_whatever_signs_are_in_it() -> None:
    value = {"name": "a\x85\u200b\U000e0001\x1b ± é"}
    out = Printed(io.StringIO())
    with redirect_stdout(out):
        print_json(value)
    assert json.loads(out.delivered()) == value
    assert "± é" in out.delivered()
