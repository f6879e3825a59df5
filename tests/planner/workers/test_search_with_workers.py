"""A search by workers is the search of one process, bit for bit, whatever becomes of them."""

import re
from pathlib import Path

import pandas as pd
import pytest

from planner import Run, search
from planner.runs.folder import WEIGHTS_FILE
from tests.planner.workers.disturbed_search import (
    RACED,
    Disturbing,
    kill_worker,
    scores,
    stop,
    workers,
)

pytestmark = pytest.mark.arithmetic


@pytest.fixture(scope="module")
def by_one(saved_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return search(str(saved_llama), out=tmp_path_factory.mktemp("one") / "run", **RACED)


@pytest.fixture(scope="module")
def progress() -> Disturbing:
    return Disturbing(14, kill_worker)


@pytest.fixture(scope="module")
def by_two(
    saved_llama: Path, tmp_path_factory: pytest.TempPathFactory, progress: Disturbing
) -> Run:
    """Begun by one process and gone on with by two workers, one of which is killed."""
    folder = tmp_path_factory.mktemp("two") / "run"
    with pytest.raises(KeyboardInterrupt):
        search(str(saved_llama), out=folder, **RACED, progress=Disturbing(8, stop))
    settings = {**RACED, "workers": 2}
    return search(str(saved_llama), out=folder, resume=True, **settings, progress=progress)


def test_the_scores_are_the_same_bit_for_bit(by_one: Run, by_two: Run) -> None:
    assert scores(by_one) == scores(by_two)
    assert len(scores(by_one)) >= 24
    pd.testing.assert_frame_equal(by_one.front(), by_two.front(), check_exact=True)


def test_the_same_weights_are_recorded_once(by_one: Run, by_two: Run) -> None:
    one, two = (
        sorted(filter(None, (run.folder / WEIGHTS_FILE).read_text().split("\n")))
        for run in (by_one, by_two)
    )
    assert one == two
    assert len(set(two)) == len(two)


def test_workers_leave_nothing_behind(by_one: Run, by_two: Run) -> None:
    assert workers() == []
    names = [sorted(path.name for path in run.folder.iterdir()) for run in (by_one, by_two)]
    assert names[0] == names[1]


def test_progress_tells_of_them(by_two: Run, progress: Disturbing) -> None:
    told = [re.search(r"[12] of 2 workers, \d tasks in flight", text) for text in progress.notes]
    assert any(told)
