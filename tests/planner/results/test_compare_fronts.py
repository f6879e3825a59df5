from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from planner.reports.sentences import rivalry_sentences
from planner.results.compare_fronts import compare_fronts
from planner.run import Run
from planner.runs.metadata import RunMetadata
from search_spaces.errors import RunError
from search_spaces.models.identity import SourceIdentity
from tests.problems.toy_search import DENSE, SETTINGS, evaluation, rescored

MODEL = SourceIdentity(architecture="A", fingerprint="abc", params=1000, tokenizer="a")
DENSE_PLAN, HALF, EMPTY = (3,) * 8, (0, 3) * 4, (0,) * 8


def made(folder: Path, kls: Mapping[tuple[int, ...], float], error: float = 0.0) -> Run:
    """A run whose front has these KL on held-out text."""
    run = Run.create(folder, SETTINGS)
    run.record_metadata(RunMetadata(dense=DENSE, cost_names=("params",), model=MODEL))
    for genome, kl in kls.items():
        plan = evaluation(genome)
        run.record(plan)
        run.record_rescore(plan.plan_id, "holdout", rescored(kl, error))
    return run


def test_two_runs_stand_against_each_other(tmp_path: Path) -> None:
    with ExitStack() as stack:
        good = made(tmp_path / "good", {DENSE_PLAN: 0.0, HALF: 1.0, EMPTY: 4.0}, 0.1)
        poor = made(tmp_path / "poor", {DENSE_PLAN: 0.0, HALF: 1.2, EMPTY: 5.0}, 0.1)
        for run in (good, poor):
            stack.enter_context(run)
        ours, theirs, reference = compare_fronts(good, poor)
        assert reference == pytest.approx(5.5)
        # HALF costs 0.8, EMPTY 0.2
        volume = ((5.5 - 4.0) * 0.6 + (5.5 - 1.0) * 0.2) / 5.5
        assert ours.hypervolume == pytest.approx(volume)
        assert ours.hypervolume > theirs.hypervolume
        assert (ours.plans, ours.dominated, ours.significantly_dominated) == (3, 0, 0)
        assert (theirs.plans, theirs.dominated, theirs.significantly_dominated) == (3, 2, 1)
        assert compare_fronts(poor, good) == (theirs, ours, reference)
        _, first, second = rivalry_sentences(good, poor).splitlines()
        assert f"{volume:.4f}; 0 of 3 plans dominated" in first
        assert "2 of 3 plans dominated by the other run, 1 significantly" in second


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (RunMetadata(model=MODEL.model_copy(update={"tokenizer": "b"})), "the same model"),
        (RunMetadata(cost_names=("kv",)), "the same costs"),
        (RunMetadata(text="other.txt"), "the same text"),
    ],
)
def test_runs_that_differ_cannot_be_compared(
    other: RunMetadata, said: str, tmp_path: Path
) -> None:
    with made(tmp_path / "a", {HALF: 1.0}) as ours, made(tmp_path / "b", {HALF: 1.0}) as theirs:
        theirs.record_metadata(other)
        with pytest.raises(RunError, match=said) as raised:
            compare_fronts(ours, theirs)
        assert len(str(raised.value).replace(str(tmp_path), "")) <= 300


def test_a_front_that_is_not_re_scored_cannot_be_compared(tmp_path: Path) -> None:
    with made(tmp_path / "a", {HALF: 1.0}) as ours, made(tmp_path / "b", {}) as theirs:
        for found, other in ((ours, theirs), (theirs, ours)):
            with pytest.raises(RunError, match="re-scored on held-out text"):
                compare_fronts(found, other)
        theirs.record(evaluation(EMPTY))
        with pytest.raises(RunError, match="re-scored on held-out text"):
            compare_fronts(ours, theirs)
