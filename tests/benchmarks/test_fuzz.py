import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import fuzz, report
from benchmarks.fuzzing import judge
from benchmarks.fuzzing.materials import Asked, Materials, Place, prose
from benchmarks.fuzzing.workers import Outcome
from benchmarks.report import Row

SENTENCE = "planner: `--seed` must be a number, got `x`; fix it\n"


@pytest.fixture
def materials(tmp_path: Path, searched: Path, saved_llama: Path) -> Materials:
    made = Materials(root=tmp_path / "materials")
    shutil.copytree(searched, made.path("run"))
    for family in ("Llama", "Qwen3", "Gemma2", "GPT2", "Mixtral"):
        shutil.copytree(saved_llama, made.path(family))
    made.path("text.txt").write_text(prose(400))
    plan = {"version": 4, "sites": {"layers.0.mlp": {"unit_count": 8, "kept": "0-3"}}}
    made.path("plan.json").write_text(json.dumps(plan))
    return made


@pytest.fixture
def place(tmp_path: Path, materials: Materials) -> Place:
    return Place(root=tmp_path / "place", materials=materials, rng=random.Random(0))


def ended(status: int, err: str = "", out: str = "") -> Outcome:
    return Outcome(status=status, timed_out=False, seconds=1, out=out, err=err)


def kinds(outcome: Outcome, place: Place, asked: Asked | None = None) -> list[str]:
    asked = asked or Asked(words=["search", "model", "--out=out"], out="out")
    before = judge.snapshot(place)
    return [kind for kind, _ in judge.faults(asked, outcome, place, before)]


def test_topics_take_turns_by_their_shares() -> None:
    counts = Counter(fuzz.topic_of(index) for index in range(2000))
    assert counts == {topic: 50 * share for topic, (share, _) in fuzz.TOPICS.items()}


@pytest.mark.parametrize("topic", fuzz.TOPICS)
def test_the_same_seed_makes_the_same_inputs_and_another_seed_others(
    topic: str, tmp_path: Path, materials: Materials
) -> None:
    def made(name: str, seed: int) -> list[object]:
        found: list[object] = []
        for index in range(6):
            rng = random.Random(f"{seed}:{index}")
            root = tmp_path / name / str(index) / "place"
            place = Place(root=root, materials=materials, rng=rng)
            words = fuzz.TOPICS[topic][1](place).words
            said = [word.replace(str(root), "") for word in words]
            found.append((said, judge.snapshot(place) if topic != "databases" else place.remarks))
        return found

    assert made("a", 0) == made("b", 0)
    assert made("c", 0) != made("d", 1)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (ended(2, SENTENCE), []),
        (ended(2, f"reading …\r 10 %\r{SENTENCE}"), []),
        (ended(2, SENTENCE + "more\n"), ["lines"]),
        (ended(2, SENTENCE + SENTENCE), ["lines"]),
        (ended(2, "planner: " + "x" * 301), ["long"]),
        (ended(2, "planner: " + "x" * 300), []),
        (ended(2, "planner: `a` cannot be read: Expecting value"), ["foreign words"]),
        (ended(2, "usage: planner"), ["no sentence"]),
        (ended(1, "Traceback (most recent call last):\nKeyError"), ["traceback"]),
        (ended(1, "planner: a defect"), ["status"]),
        (ended(-11), ["status"]),
        (ended(-24), ["hang"]),
        (ended(0), ["half-written"]),
    ],
)
def test_an_end_is_wrong_in_its_own_way(
    outcome: Outcome, expected: list[str], place: Place
) -> None:
    assert kinds(outcome, place) == expected


def test_what_was_touched_or_left_is_wrong(place: Place) -> None:
    asked = Asked(words=["export", "run", "--out=out"], out="out")
    (place.work / "notes.txt").write_text("mine")
    before = judge.snapshot(place)
    (place.work / "notes.txt").write_text("yours")
    (place.root / "beside.txt").unlink()
    (place.root / "ran").touch()
    (place.root / "new").touch()
    (place.work / ".front.12.tmp.csv").touch()
    (place.work / "out").mkdir()
    found = list(judge.faults(asked, ended(2, SENTENCE), place, before))
    assert Counter(kind for kind, _ in found) == {"touched": 4, "left over": 1, "half-written": 1}
    assert ("touched", "planted code ran") in found


def test_a_refused_search_may_leave_a_lock_or_a_run_and_nothing_else(
    place: Place, materials: Materials
) -> None:
    out = place.work / "out"
    out.mkdir()
    (out / "run.lock").touch()
    assert kinds(ended(2, SENTENCE), place) == []
    (out / "ranking.npz").touch()
    assert kinds(ended(2, SENTENCE), place) == ["half-written"]
    shutil.copytree(materials.path("run"), out, dirs_exist_ok=True)
    assert kinds(ended(2, SENTENCE), place) == []


def test_figures_of_one_code_stay_beside_those_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)

    def rows(side: str, wrong: int, inputs: int = 2000) -> list[Row]:
        return [
            {"odd": "all", "inputs": inputs, f"{side}: wrong": wrong},
            {"code": side, "commit": side, "minutes": 9.0},
            {f"{side}: inputs that went wrong": str(wrong)},
        ]

    def keep(side: str, wrong: int, inputs: int = 2000) -> list[Row]:
        merged = fuzz._merged(rows(side, wrong, inputs), side)
        (tmp_path / "fuzz.json").write_text(json.dumps({"rows": merged}))
        return merged

    keep("before", 7)
    merged = keep("after", 1)
    assert merged[0] == {"odd": "all", "inputs": 2000, "before: wrong": 7, "after: wrong": 1}
    assert [row["code"] for row in merged if "code" in row] == ["before", "after"]
    assert keep("before", 6)[0] == {**merged[0], "before: wrong": 6}
    assert keep("after", 0, inputs=10)[0] == {"odd": "all", "inputs": 10, "after: wrong": 0}
