"""Progress that a run records, for whoever reads it from outside."""

from pathlib import Path

import pytest

from planner.run import Run
from planner.searching import recorded_progress
from planner.searching.recorded_progress import RecordedProgress
from planner.searching.search_model import open_run
from planner.searching.spending import SearchProgress
from search_spaces.errors import ModelError
from tests.problems.toy_search import SETTINGS, evaluation
from tests.progress import RecordedProgress as Heard

PLAN = evaluation((3,) * 8)
HALF = SearchProgress(
    done=5,
    share=0.5,
    tokens=70,
    doing="round 2: 8 plans on 4 of 16 windows",
    latest=PLAN,
    is_complete=True,
    seconds=3.0,
    eta_seconds=90.0,
)


def test_each_stage_and_its_progress_are_recorded_and_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    with Run.create(tmp_path, SETTINGS) as run:
        progress = RecordedProgress(run, heard, "searching")
        progress.stage("searching")
        first = run.status
        assert (first.state, first.phase, first.share) == ("searching", "searching", 0.0)
        progress.searched(HALF)
        assert run.status == first  # less than a second has passed
        monkeypatch.setattr(recorded_progress, "_SECONDS", 0.0)
        progress.searched(HALF, "KL 0.1 within params<=0.7x")
        status = run.status
        assert (status.share, status.eta_seconds, status.tokens) == (0.5, 90.0, 70)
        assert (status.state, status.phase) == ("searching", HALF.doing)
        progress.enter("rescoring")
        progress.stage("re-scoring")
        progress.advance(1, 4)
        status = run.status
        assert (status.state, status.phase, status.share) == ("rescoring", "re-scoring", 0.25)
        assert status.tokens == 70
    assert (50, 100) in heard.counts
    assert (1, 4) in heard.counts
    assert heard.notes == [
        "5 plans · round 2: 8 plans on 4 of 16 windows · 1.5 min left",
        f"KL 0.1 within params<=0.7x · 5 plans · {HALF.doing} · 1.5 min left",
    ]


@pytest.mark.parametrize(
    ("error", "state", "failure"),
    [
        (KeyboardInterrupt(), "stopped", ""),
        (ModelError("no plan could be scored"), "failed", "no plan could be scored"),
        (ZeroDivisionError("a defect"), "failed", "ZeroDivisionError"),
    ],
)
def test_how_a_session_ended_is_recorded(
    error: BaseException, state: str, failure: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with (  # noqa: PT012
        pytest.raises(type(error)),
        open_run(out, SETTINGS, resume=False) as run,
    ):
        run.record(PLAN)
        run.record_status("searching", "scoring", 0.5, eta_seconds=3.0)
        raise error
    with Run.open(out) as ended:
        status = ended.status
    assert (status.state, status.failure) == (state, failure)
    assert (status.phase, status.share, status.eta_seconds) == ("scoring", 0.5, None)


def test_a_refused_resume_leaves_the_status_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "run"
    Run.create(out, SETTINGS).close()
    before = Run.open(out).status
    with pytest.raises(ModelError), open_run(out, SETTINGS, resume=True):
        raise ModelError("another model")
    assert Run.open(out).status == before
