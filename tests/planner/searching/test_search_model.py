"""One search from start to end on a tiny saved model."""

import json
import os
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from evaluators.data.windows import Calibration
from evaluators.quality import QUALITY
from evaluators.scoring.evaluator import Evaluator
from planner import Run, search
from planner.reports.sentences import compared_with_baselines
from planner.runs.records import BASELINE_ROUND
from tests.progress import RecordedProgress
from tests.settings import SMALL

pytestmark = pytest.mark.arithmetic


def test_every_evaluation_is_recorded(run: Run) -> None:
    searched = [e for e in run.landed() if e.round != BASELINE_ROUND]
    assert len(searched) == SMALL["evaluations"]
    assert all(e.score.tokens == 4 * 16 for e in searched)


def test_the_dense_model_ends_the_front(run: Run) -> None:
    dearest = run.front().iloc[0]
    assert dearest["kl"] == 0.0
    assert dearest["agreement"] == 1.0
    assert dearest["params"] == run.dense["params"]


def test_no_plan_of_the_front_is_dominated(run: Run) -> None:
    frame = run.front()
    for _, plan in frame.iterrows():
        better = (frame["kl"] <= plan["kl"]) & (frame["params"] <= plan["params"])
        assert better.sum() == 1  # itself


def test_the_whole_front_was_scored_on_fresh_and_on_hold_out_text(run: Run) -> None:
    frame = run.front()
    for split in ("fresh", "holdout"):
        for metric in QUALITY:
            assert frame[f"{split}_{metric}"].notna().all()
    # other tokens: the same number would mean that the split was not used
    assert (frame[["nll", "fresh_nll", "holdout_nll"]].nunique(axis=1) == 3).all()
    dense = frame.iloc[0]
    assert dense["fresh_acceptance"] == dense["holdout_acceptance"] == 1.0
    saved = pd.read_csv(run.folder / "front.csv")
    pd.testing.assert_frame_equal(saved, frame)


def test_the_best_plan_meets_the_budget(run: Run) -> None:
    best = run.best("params<=0.8x")
    assert best.costs["params"] <= 0.8 * run.dense["params"]
    inside = [e for e in run.landed() if e.costs["params"] <= 0.8 * run.dense["params"]]
    assert best.quality["kl"].value == min(e.quality["kl"].value for e in inside)


def test_the_uniform_plan_is_there_to_compare_with(run: Run) -> None:
    uniform = run.baselines()["uniform"]
    share = uniform.costs["params"] / run.dense["params"]
    assert 0.75 < share <= 0.8
    assert set(uniform.quality) == {"kl", "nll", "agreement"}
    assert set(uniform.fresh) == set(uniform.holdout) == set(QUALITY)


def test_the_additive_plan_is_there_too_and_the_search_is_judged_by_both(run: Run) -> None:
    assert list(run.baselines()) == ["uniform", "additive"]
    best, additive = run.best("params<=0.8x"), run.baselines()["additive"]
    assert additive.costs["params"] <= 0.8 * run.dense["params"]
    assert set(additive.fresh) == set(additive.holdout) == set(QUALITY)
    assert len(additive.holdout["kl"].by_window) == SMALL["holdout_windows"]
    said = compared_with_baselines(run, best)
    assert len(said) == 3
    assert f"KL {best.holdout['kl'].value:.3f}" in said[0]
    assert "the uniform plan (the same share pruned everywhere): the search" in said[1]
    assert "the additive plan (the best plan if sensitivities added up): the search" in said[2]
    same = compared_with_baselines(run, additive)[2]
    assert same.startswith("it is the additive plan (the best plan if sensitivities added up)")
    lone = replace(best, holdout={})
    assert compared_with_baselines(run, lone) == []


def test_a_front_can_be_cut_by_a_budget(run: Run) -> None:
    frame = run.front("params<=0.9x")
    assert 0 < len(frame) < len(run.front())
    assert frame["params_x"].max() <= 0.9


def test_no_window_is_used_for_two_ends(run: Run) -> None:
    tokens = Calibration.load(run.folder / "calibration.npz")
    parts = (tokens.search, tokens.fresh, tokens.holdout)
    assert [part.shape for part in parts] == [(4, 16), (5, 16), (3, 16)]
    assert len(set(map(tuple, torch.cat(parts).tolist()))) == 4 + 5 + 3


def test_the_same_seed_gives_the_same_front(run: Run, saved_llama: Path, tmp_path: Path) -> None:
    again = search(str(saved_llama), out=tmp_path / "again", **SMALL)
    pd.testing.assert_frame_equal(again.front(), run.front())
    other = search(str(saved_llama), out=tmp_path / "other", **SMALL, seed=1)
    assert list(other.front()["plan_id"]) != list(run.front()["plan_id"])


def test_one_evaluator_stands_in_memory_at_a_time(
    saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Evaluator]] = []
    make = Evaluator.__init__

    def watched(self: Evaluator, *arguments: Any, **options: Any) -> None:
        assert all(earlier() is None for earlier in made)
        made.append(weakref.ref(self))
        make(self, *arguments, **options)

    monkeypatch.setattr(Evaluator, "__init__", watched)
    search(str(saved_llama), out=tmp_path / "run", **{**SMALL, "evaluations": 9})
    assert len(made) == 3  # searched on, fresh, held-out


def test_progress_is_reported(saved_llama: Path, tmp_path: Path, notices: list[str]) -> None:
    progress = RecordedProgress()
    search(str(saved_llama), out=tmp_path / "run", **SMALL, progress=progress)
    searching = [(done, total) for stage, done, total in progress.steps if stage == "searching"]
    assert {total for _, total in searching} == {100}
    assert [done for done, _ in searching] == sorted(done for done, _ in searching)
    assert searching[-1][0] == 100
    assert notices[0].startswith("scoring in ")
    assert "at most about" in notices[1]


def test_environment_stands_beside_the_run(run: Run) -> None:
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["core_count"] == os.cpu_count()
    assert environment["packages"]["torch"].startswith(torch.__version__.split("+")[0])
