from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks import sides
from benchmarks.smollm2 import Text

SMOLLM2 = """
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True)
class Text:
    windows: int
    tokens: int
"""
DUEL = """
Decide = object

class Duel:
    children = [1, 2, 3]

    def fight(self, decide, repeats):
        raise AssertionError("it is not asked for its own figures")

def text(*, quick):
    raise AssertionError("nor how much text it takes")
"""
RACING = """
import json, os
from benchmarks import duel

def main():
    print("not an answer")
    text = duel.text(quick=False)
    noted = open(os.environ["NOTED"], "a")

    def decide(children):
        words = [str(__file__), text.windows, text.tokens, children]
        print(json.dumps(words), file=noted, flush=True)
        return [], 0

    duel.Duel().fight(decide, 3)
"""
MEMORY = """
import os

def score_generation(pipe, text):
    pipe.send(({"faults": float(text.windows), "peak": 7e6 + os.getpid()}, 2_000_000))
"""
TEXT = Text(windows=4, tokens=8)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with benchmarks that have names and shapes of the project's, and do nothing."""
    folder = tmp_path / "earlier" / "benchmarks"
    folder.mkdir(parents=True)
    for name, text in (
        ("__init__", ""),
        ("smollm2", SMOLLM2),
        ("duel", DUEL),
        ("racing", RACING),
        ("memory", MEMORY),
    ):
        (folder / f"{name}.py").write_text(text)
    return folder.parent


def test_a_side_does_its_checkouts_work_each_time_it_is_asked(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = tmp_path / "noted"
    monkeypatch.setenv("NOTED", str(noted))
    with sides.Side(checkout, "racing", TEXT) as side:
        assert [list(side.run()) for _ in range(2)] == [["seconds"]] * 2
    lines = noted.read_text().splitlines()
    path = checkout / "benchmarks" / "racing.py"
    assert lines == [f'["{path}", 4, 8, [1, 2, 3]]'] * 2


def test_memory_is_that_of_a_process_beyond_its_model(checkout: Path) -> None:
    with sides.Side(checkout, "memory", TEXT) as side:
        figures = side.run()
        assert figures["faults"] == 4.0
        assert figures["MB beyond the model"] >= 5.0
        with pytest.raises(RuntimeError, match="a side of the comparison ended"):
            side.run()


class Told:
    """A side whose figures are known, and who notes that it was asked."""

    def __init__(self, checkout: Path, figures: list[float], log: list[str]) -> None:
        self._name, self._figures, self._log = checkout.name, figures, log

    def __enter__(self) -> "Told":
        self._log.append(f"start {self._name}")
        return self

    def __exit__(self, *_: object) -> None:
        self._log.append(f"end {self._name}")

    def run(self) -> Mapping[str, float]:
        self._log.append(self._name)
        return {"seconds": self._figures.pop(0)}


CHECKOUTS = {"before": Path("/old"), "after": Path("/new")}


@pytest.mark.parametrize("fresh", [False, True])
def test_sides_take_turns_and_medians_are_compared(*, fresh: bool) -> None:
    figures, log = {"old": [4.0, 9.0, 2.0], "new": [3.0, 2.0, 1.0]}, list[str]()

    def start(checkout: Path) -> Told:
        return Told(checkout, figures[checkout.name], log)

    found = sides.alternating(CHECKOUTS, start, 3, fresh=fresh)  # type: ignore[arg-type]
    asked = [word for word in log if " " not in word]
    assert asked == ["old", "new", "new", "old", "old", "new"]
    assert log.count("start old") == log.count("end new") == (3 if fresh else 1)
    before, after = sides.rows_of(found, CHECKOUTS)
    assert before["seconds"] == 4.0
    assert before["seconds: ratio"] == 1.0
    assert before["seconds: runs"] == "4, 9, 2"
    assert after["seconds"] == 2.0
    assert after["seconds: ratio"] == 0.5


def test_without_an_earlier_checkout_there_is_no_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BEFORE", raising=False)
    assert sides.compared("racing", TEXT, 3) == []
    monkeypatch.setenv("BEFORE", str(tmp_path))
    with pytest.raises(SystemExit, match="`BEFORE` must be a checkout"):
        sides.compared("racing", TEXT, 3)
