"""One search from start to end on a tiny saved model."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

from evaluators.data.windows import Calibration
from evaluators.quality import QUALITY
from evaluators.scoring.evaluator import Evaluator
from planner import Run, search
from planner.reports.sentences import compared_with_baselines
from planner.results.front import front
from planner.results.indicators import Points, knee
from planner.runs.records import Evaluation
from planner.runs.run_store import RunStore
from planner.searching.rescoring import BASELINE_ROUND
from search_spaces.errors import BudgetError, DataError, ModelError, RunError, SettingsError
from tests.models.families import dense
from tests.progress import RecordedProgress

SMALL: dict[str, Any] = {
    "budget": "params<=0.8x",
    "evaluations": 40,
    "population": 8,
    "search_windows": 4,
    "window_tokens": 16,
    "fresh_windows": 5,
    "holdout_windows": 3,
}


@pytest.fixture(scope="module")
def run(saved_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return search(str(saved_llama), out=tmp_path_factory.mktemp("runs") / "run", **SMALL)


def test_every_evaluation_is_kept(run: Run) -> None:
    searched = [e for e in run.evaluations() if e.round != BASELINE_ROUND]
    assert len(searched) == SMALL["evaluations"]
    assert all(e.score.tokens == 4 * 16 for e in searched)


def test_the_dense_model_ends_the_front(run: Run) -> None:
    dearest = run.front().iloc[0]
    assert dearest["kl"] == 0.0
    assert dearest["agreement"] == 1.0
    assert dearest["params"] == run.dense["params"]


def test_no_plan_of_the_front_is_beaten(run: Run) -> None:
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
    inside = [e for e in run.evaluations() if e.costs["params"] <= 0.8 * run.dense["params"]]
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
    assert "the plan that cuts the same share everywhere: the search" in said[1]
    assert "the best plan if prior sensitivities added up: the search" in said[2]
    same = compared_with_baselines(run, additive)[2]
    assert same.startswith("it is the best plan if prior sensitivities added up")
    lone = replace(best, holdout={})
    assert compared_with_baselines(run, lone) == []


def test_text_can_be_held_out_on_its_own(saved_llama: Path, tmp_path: Path) -> None:
    for name, word in (("data", "a b c d "), ("other", "e f g h ")):
        (tmp_path / f"{name}.txt").write_text(word * 400, encoding="utf-8")
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


def test_the_search_sees_its_own_windows_only(run: Run, saved_llama: Path, tmp_path: Path) -> None:
    """The same search beside other fresh and hold-out text must take the same decisions."""
    tokens = Calibration.load(run.folder / "calibration.npz")
    swapped = Calibration(
        search=tokens.search,
        fresh=torch.flip(tokens.fresh, dims=[1]),
        holdout=torch.flip(tokens.holdout, dims=[1]),
        extra=tokens.extra,
        source="test",
    )
    # a run that was killed right after its calibration was written
    out = tmp_path / "run"
    Run.create(out, run.settings).close()
    swapped.save(out / "calibration.npz")
    other = search(str(saved_llama), out=out, resume=True, **SMALL)
    before = [(e.genome, e.quality["kl"].value) for e in run.evaluations()]
    assert [(e.genome, e.quality["kl"].value) for e in other.evaluations()] == before
    for column in ("fresh_nll", "holdout_nll"):
        assert (other.front()[column] != run.front()[column]).all()


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
    assert len(made) == 3  # searched on, fresh, hold-out


def test_a_front_that_was_half_re_scored_is_finished(
    run: Run, saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, record, count = tmp_path / "run", RunStore.record_rescore, len(run.front())

    def failing(self: RunStore, *scores: Any) -> None:
        written.append(scores)
        if len(written) > count:  # the first on hold-out text
            raise KeyboardInterrupt
        record(self, *scores)

    written: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(RunStore, "record_rescore", failing)
        with pytest.raises(KeyboardInterrupt):
            search(str(saved_llama), out=out, **SMALL)
    resumed = search(str(saved_llama), out=out, resume=True, **SMALL)
    pd.testing.assert_frame_equal(resumed.front(), run.front())


def test_a_budget_below_the_smallest_plan_leaves_the_folder_free(
    saved_llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(BudgetError, match=r"the smallest plan of this model has params 0\.\d+x"):
        search(str(saved_llama), out=tmp_path / "run", **{**SMALL, "budget": "params<=0.01x"})
    assert len(search(str(saved_llama), out=tmp_path / "run", **SMALL).front()) > 1


def test_text_that_is_too_short_says_what_is_needed(saved_llama: Path, tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("a few words only", encoding="utf-8")
    with pytest.raises(DataError, match=r"needs 4 \+ 5 windows of 16 tokens"):
        search(str(saved_llama), out=tmp_path / "run", data=str(text), **SMALL)


def test_whole_layers_only(saved_llama: Path, tmp_path: Path) -> None:
    run = search(
        str(saved_llama), out=tmp_path / "run", **{**SMALL, "evaluations": 20}, space="layers"
    )
    assert all(set(e.genome) <= {0, 1} for e in run.evaluations())
    assert len(run.evaluations()[0].genome) == 6
    folder = run.export(run.best("params<=0.8x").plan_id, tmp_path / "export")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"


@pytest.mark.parametrize("budget", [None, "kl<=9"])
def test_without_a_limit_on_costs_the_whole_range_is_searched_and_judged_at_the_knee(
    budget: str | None, saved_llama: Path, tmp_path: Path
) -> None:
    settings = {**SMALL, "budget": budget}
    run = search(str(saved_llama), out=tmp_path / "run", **settings)
    assert run.front()["params_x"].min() < 0.5
    proposed = front([e for e in run.evaluations() if e.round != BASELINE_ROUND], ("params",))
    position = knee(Points.of(proposed, ("params",), run.dense))
    plan = proposed[len(proposed) // 2 if position is None else position]
    assert list(run.baselines()) == ["uniform", "additive"]
    for baseline in run.baselines().values():
        assert baseline.costs["params"] <= plan.costs["params"] < run.dense["params"]
        assert baseline.score.windows == SMALL["search_windows"]
    within = run.get_meta("baselines_within")
    assert within == f"params<={plan.costs['params']:.0f}"
    assert len(compared_with_baselines(run, run.best(within))) == 3

    # a run that is gone on with, though finished, compares at the same plan
    before = run.evaluations()
    again = search(str(saved_llama), out=tmp_path / "run", **settings, resume=True)
    assert again.get_meta("baselines_within") == within
    assert len(again.evaluations()) == len(before)


@pytest.mark.parametrize("searcher", ["random", "uniform"])
def test_baselines_run_the_same_road(saved_llama: Path, tmp_path: Path, searcher: str) -> None:
    run = search(
        str(saved_llama), out=tmp_path / "run", **{**SMALL, "evaluations": 12}, searcher=searcher
    )
    assert len(run.front()) > 1


def test_progress_is_told(saved_llama: Path, tmp_path: Path, notices: list[str]) -> None:
    progress = RecordedProgress()
    search(str(saved_llama), out=tmp_path / "run", **SMALL, progress=progress)
    searching = [(done, total) for stage, done, total in progress.steps if stage == "searching"]
    assert {total for _, total in searching} == {100}
    assert [done for done, _ in searching] == sorted(done for done, _ in searching)
    assert searching[-1][0] == 100
    assert "at most about" in notices[0]


def test_a_killed_process_loses_nothing(
    run: Run, saved_llama: Path, tmp_path: Path, command: Callable[..., list[str]]
) -> None:
    """Really kill -9 the command in the middle, resume it, and compare with the whole run."""
    out = tmp_path / "run"
    options = [f"--{name}={value}" for name, value in SMALL.items()]
    arguments = command("search", str(saved_llama), *options, "--out", str(out))
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    try:
        landed = _wait_for_evaluations(out / "run.sqlite", 5)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert landed < SMALL["evaluations"]
    with Run.open(out) as killed:
        survived = killed.evaluations()
    assert len(survived) >= landed
    resumed = search(str(saved_llama), out=out, resume=True, **SMALL)
    # all but the scores on other text, which come at the end
    kept = [replace(e, fresh={}, holdout={}) for e in resumed.evaluations()[: len(survived)]]
    assert kept == survived
    pd.testing.assert_frame_equal(resumed.front(), run.front())


def _wait_for_evaluations(database: Path, count: int) -> int:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if database.is_file():
            with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
                try:
                    (landed,) = connection.execute("select count(*) from evaluations").fetchone()
                except sqlite3.OperationalError:  # its tables are being made
                    landed = 0
            connection.close()
            if landed >= count:
                return int(landed)
        time.sleep(0.002)
    raise AssertionError("the search scored nothing in two minutes")


@pytest.fixture
def command() -> Callable[..., list[str]]:
    """The command line as a fresh process runs it, slowed so that it can be caught in the act."""

    def build(*arguments: str) -> list[str]:
        code = (
            "import sys, time, torch; torch.set_num_threads(1); "
            "from planner.searching import loop; "
            "record = loop.RunStore.record; "
            "loop.RunStore.record = lambda *a: (record(*a), time.sleep(0.05))[0]; "
            "from planner.cli.main import main; sys.exit(main(sys.argv[1:]))"
        )
        return [sys.executable, "-c", code, *arguments]

    return build


def test_a_run_in_use_is_refused(run: Run, saved_llama: Path) -> None:
    with (
        Run.resume(run.folder, run.settings),
        pytest.raises(RunError, match="one process at a time"),
    ):
        search(str(saved_llama), out=run.folder, resume=True, **SMALL)


def test_a_run_can_be_taken_further(run: Run, saved_llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    search(str(saved_llama), out=out, **{**SMALL, "evaluations": 17})
    further = search(str(saved_llama), out=out, resume=True, **SMALL)
    assert list(further.front()["plan_id"]) == list(run.front()["plan_id"])


def test_objectives_follow_the_budget(saved_llama: Path, tmp_path: Path) -> None:
    run = search(
        str(saved_llama), out=tmp_path / "run", **{**SMALL, "budget": "kv<=0.6x,size<=0.9x"}
    )
    best = run.best("kv<=0.6x,size<=0.9x")
    assert best.costs["kv"] <= 0.6 * run.dense["kv"]
    assert best.costs["size"] <= 0.9 * run.dense["size"]
    assert np.isfinite(best.quality["kl"].value)


def test_environment_stands_beside_the_run(run: Run) -> None:
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["core_count"] == os.cpu_count()
    assert environment["packages"]["torch"].startswith(torch.__version__.split("+")[0])


def test_other_weights_under_the_same_name_are_refused(saved_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved_llama, folder)
    run = search(str(folder), out=tmp_path / "run", **{**SMALL, "evaluations": 9})
    weights = load_file(folder / "model.safetensors")
    weights = {name: weight * 1.01 for name, weight in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match="the weights that the run began with"):
        run.export(run.best("params<=0.8x").plan_id, tmp_path / "export")
    with pytest.raises(RunError, match="the weights that the run began with"):
        search(str(folder), out=tmp_path / "run", resume=True, **SMALL)


def test_plan_ids_do_not_depend_on_the_number_format(saved_llama: Path, tmp_path: Path) -> None:
    run = search(
        str(saved_llama), out=tmp_path / "run", **{**SMALL, "evaluations": 9}, dtype="bfloat16"
    )
    chosen = run.best("params<=0.8x").plan_id
    folder = run.export(chosen, tmp_path / "export")
    assert json.loads((folder / "manifest.json").read_text())["plan_id"] == chosen
    # a machine where `auto` picks another format than the first
    with (
        Run.resume(run.folder, run.settings) as resumed,
        pytest.raises(RunError, match=r"in torch\.bfloat16 on cpu, got torch\.float32 on cpu"),
    ):
        resumed.check_arithmetic("torch.float32 on cpu")


def test_a_uniform_plan_leaves_alone_what_saves_nothing(saved_llama: Path, tmp_path: Path) -> None:
    run = search(
        str(saved_llama), out=tmp_path / "run", **{**SMALL, "budget": "kv<=0.5x,params<=0.95x"}
    )
    uniform = run.baselines()["uniform"]
    assert set(uniform.genome[1::2]) == {12}  # MLPs cost no cache
    assert uniform.costs["kv"] <= 0.5 * run.dense["kv"]
    assert uniform.costs["params"] <= 0.95 * run.dense["params"]


def test_windows_beyond_the_positions_are_refused(saved_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="at most the 64 positions of the model, got 65"):
        search(str(saved_llama), out=tmp_path / "run", **{**SMALL, "window_tokens": 65})


def test_damaged_calibration_is_refused(saved_llama: Path, tmp_path: Path) -> None:
    run = search(str(saved_llama), out=tmp_path / "run", **{**SMALL, "evaluations": 9})
    path = run.folder / "calibration.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(RunError, match=r"calibration\.npz` must hold the run's tokens"):
        search(str(saved_llama), out=run.folder, resume=True, **SMALL)


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
    windows = {e.plan_id: e.score.windows for e in raced.evaluations()}
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
    windows = {e.plan_id: e.score.windows for e in run.evaluations()}
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
