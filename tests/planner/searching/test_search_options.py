"""Searches of other models, budgets, searchers and races than the shared one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from evaluators.data.windows import Calibration
from planner import search
from planner.reports.sentences import compared_with_baselines
from planner.results.front import front
from planner.results.indicators import Points, knee
from planner.runs.records import BASELINE_ROUND, Evaluation
from planner.runs.run_store import RunStore
from search_spaces.errors import DataError, ModelError, SettingsError
from tests.models.families import dense
from tests.progress import RecordedProgress
from tests.settings import SMALL

pytestmark = pytest.mark.arithmetic


def test_whole_layers_only(saved_llama: Path, tmp_path: Path) -> None:
    run = search(
        str(saved_llama), out=tmp_path / "run", **{**SMALL, "evaluations": 20}, space="layers"
    )
    assert all(set(e.genome) <= {0, 1} for e in run.landed())
    assert len(run.landed()[0].genome) == 6
    folder = run.export(run.best("params<=0.8x").plan_id, tmp_path / "export")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"


@pytest.mark.parametrize("budget", [None, "kl<=9"])
def test_without_a_limit_on_costs_the_whole_range_is_searched_and_compared_at_the_knee(
    budget: str | None, saved_llama: Path, tmp_path: Path
) -> None:
    settings = {**SMALL, "budget": budget}
    run = search(str(saved_llama), out=tmp_path / "run", **settings)
    assert run.front()["params_x"].min() < 0.5
    proposed = front([e for e in run.landed() if e.round != BASELINE_ROUND], ("params",))
    position = knee(Points.of(proposed, ("params",), run.dense))
    plan = proposed[len(proposed) // 2 if position is None else position]
    assert list(run.baselines()) == ["uniform", "additive"]
    for baseline in run.baselines().values():
        assert baseline.costs["params"] <= plan.costs["params"] < run.dense["params"]
        assert baseline.score.windows == SMALL["search_windows"]
    within = run.metadata.baselines_within or ""
    assert within == f"params<={plan.costs['params']:.0f}"
    assert len(compared_with_baselines(run, run.best(within))) == 3

    # a run that is gone on with, though finished, compares at the same plan
    before = run.landed()
    again = search(str(saved_llama), out=tmp_path / "run", **settings, resume=True)
    assert again.metadata.baselines_within == within
    assert len(again.landed()) == len(before)


@pytest.mark.parametrize("searcher", ["random", "uniform"])
def test_baselines_run_the_same_road(saved_llama: Path, tmp_path: Path, searcher: str) -> None:
    run = search(
        str(saved_llama), out=tmp_path / "run", **{**SMALL, "evaluations": 12}, searcher=searcher
    )
    assert len(run.front()) > 1


def test_objectives_follow_the_budget(saved_llama: Path, tmp_path: Path) -> None:
    run = search(
        str(saved_llama), out=tmp_path / "run", **{**SMALL, "budget": "kv<=0.6x,size<=0.9x"}
    )
    best = run.best("kv<=0.6x,size<=0.9x")
    assert best.costs["kv"] <= 0.6 * run.dense["kv"]
    assert best.costs["size"] <= 0.9 * run.dense["size"]
    assert np.isfinite(best.quality["kl"].value)


def test_a_uniform_plan_leaves_alone_what_saves_nothing(saved_llama: Path, tmp_path: Path) -> None:
    run = search(
        str(saved_llama), out=tmp_path / "run", **{**SMALL, "budget": "kv<=0.5x,params<=0.95x"}
    )
    uniform = run.baselines()["uniform"]
    assert set(uniform.genome[1::2]) == {12}  # MLPs cost no cache
    assert uniform.costs["kv"] <= 0.5 * run.dense["kv"]
    assert uniform.costs["params"] <= 0.95 * run.dense["params"]


@pytest.mark.parametrize("name", ["gpt2", "opt", "neox"])
def test_families_with_short_contexts_are_searched_and_exported(
    name: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    dense(name).backbone.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    run = search(str(folder), out=tmp_path / "run", **{**SMALL, "evaluations": 9})
    exported = run.export(run.best("params<=0.8x").plan_id, tmp_path / "export")
    assert (exported / "manifest.json").is_file()


RACED: dict[str, Any] = {**SMALL, "search_windows": 16, "window_tokens": 8, "evaluations": 24}


def test_a_race_on_a_model_drops_some_plans_and_scores_the_front_in_full(
    saved_llama: Path, tmp_path: Path
) -> None:
    raced = search(str(saved_llama), out=tmp_path / "raced", **RACED)
    windows = {e.plan_id: e.score.windows for e in raced.landed()}
    assert set(windows.values()) <= {4, 8, 16}
    assert min(windows.values()) < 16
    assert all(windows[plan] == 16 for plan in raced.front()["plan_id"])
    again = search(str(saved_llama), out=tmp_path / "again", **RACED)
    pd.testing.assert_frame_equal(again.front(), raced.front())


def test_a_search_that_is_cut_short_finishes_its_front(saved_llama: Path, tmp_path: Path) -> None:
    progress = RecordedProgress()
    # two rungs of the first eight plans, and then no more
    run = search(
        str(saved_llama),
        out=tmp_path / "run",
        **{**RACED, "searcher": "nsga2", "tokens": 8 * 4 * 8 + 1},
        progress=progress,
    )
    assert "scoring what the search left unfinished" in progress.stages
    windows = {e.plan_id: e.score.windows for e in run.landed()}
    assert len(run.front()) > 1
    assert all(windows[plan] == 16 for plan in run.front()["plan_id"])


def test_a_search_in_which_all_plans_fail_is_refused(
    saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = RunStore.record

    def failing(self: RunStore, evaluation: Evaluation) -> None:
        record(self, evaluation.scored(replace(evaluation.score, failure="it is ruined")))

    monkeypatch.setattr(RunStore, "record", failing)
    options = {**SMALL, "searcher": "uniform", "evaluations": 3}
    with pytest.raises(ModelError, match=r"all \d+ failed, such as \w+: it is ruined"):
        search(str(saved_llama), out=tmp_path / "run", **options)


def test_windows_beyond_the_positions_are_refused(saved_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="at most the 64 positions of the model, got 65"):
        search(str(saved_llama), out=tmp_path / "run", **{**SMALL, "window_tokens": 65})


def test_text_that_is_too_short_says_what_is_needed(saved_llama: Path, tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("w3 w4 w5 w6", encoding="utf-8")
    needed = r"64 calibration \+ 4 search \+ 5 fresh .* need 1,168 tokens"
    with pytest.raises(DataError, match=needed):
        search(str(saved_llama), out=tmp_path / "run", data=str(text), **SMALL)


def test_text_can_be_held_out_on_its_own(saved_llama: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, words in (("data", range(3, 40)), ("other", range(40, 90))):
        text = " ".join(f"w{word}" for word in rng.choice(words, size=1600))
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    settings = {**SMALL, "evaluations": 3, "searcher": "uniform", "budget": None}
    texts: dict[str, Any] = {
        "data": str(tmp_path / "data.txt"),
        "holdout": str(tmp_path / "other.txt"),
    }
    run = search(str(saved_llama), out=tmp_path / "run", **settings, **texts)
    tokens = Calibration.load(run.folder / "calibration.npz")
    searched = set(torch.cat([tokens.search, tokens.fresh]).flatten().tolist())
    held_out = set(tokens.holdout.flatten().tolist())
    assert len(searched & held_out) <= 1  # at most what the tokenizer puts first
    assert tokens.source == f"{texts['data']}, held out {texts['holdout']}"


def test_a_request_that_no_memory_holds_is_refused_before_anything_is_scored(
    saved_llama: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(SettingsError, match="must fit into memory, got 1000000000 times 128"):
        search(str(saved_llama), out=out, **SMALL, batch_size=10**9)
    assert not out.exists()
