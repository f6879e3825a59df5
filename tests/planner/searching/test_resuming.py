"""Runs that are killed, taken further, used twice or damaged."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluators.data.windows import Calibration
from planner import Run, search
from planner.runs.records import BASELINE_ROUND
from planner.runs.run_store import RunStore
from search_spaces.errors import BudgetError, RunError, SettingsError
from tests.settings import SMALL

pytestmark = pytest.mark.arithmetic


def test_the_search_sees_its_own_windows_only(run: Run, saved_llama: Path, tmp_path: Path) -> None:
    """The same search beside other fresh and held-out text must take the same decisions."""
    tokens = Calibration.load(run.folder / "calibration.npz")
    swapped = Calibration(
        search=tokens.search,
        fresh=torch.flip(tokens.fresh, dims=[1]),
        holdout=torch.flip(tokens.holdout, dims=[1]),
        statistics=tokens.statistics,
        source="test",
    )
    # a run that was killed right after its calibration was written
    out = tmp_path / "run"
    Run.create(out, run.settings).close()
    swapped.save(out / "calibration.npz")
    other = search(str(saved_llama), out=out, resume=True, **SMALL)
    before = [(e.genome, e.quality["kl"].value) for e in run.landed()]
    assert [(e.genome, e.quality["kl"].value) for e in other.landed()] == before
    for column in ("fresh_nll", "holdout_nll"):
        assert (other.front()[column] != run.front()[column]).all()


def test_a_front_that_was_half_re_scored_is_finished(
    run: Run, saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, record, count = tmp_path / "run", RunStore.record_rescore, len(run.front())

    def failing(self: RunStore, *scores: Any) -> None:
        written.append(scores)
        if len(written) > count:  # the first on held-out text
            raise KeyboardInterrupt
        record(self, *scores)

    written: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(RunStore, "record_rescore", failing)
        with pytest.raises(KeyboardInterrupt):
            search(str(saved_llama), out=out, **SMALL)
    resumed = search(str(saved_llama), out=out, resume=True, **SMALL)
    pd.testing.assert_frame_equal(resumed.front(), run.front())


def test_the_front_of_a_running_search_is_there_in_whole(
    saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("planner.searching.search_model.rescore_front", stopped)
    monkeypatch.setattr("planner.searching.search_model.complete_front", stopped)
    with pytest.raises(KeyboardInterrupt):
        search(str(saved_llama), out=tmp_path / "run", **SMALL)
    run = Run.open(tmp_path / "run")
    searched = [e for e in run.front_plans() if e.round != BASELINE_ROUND]
    assert len(searched) > 1
    for evaluation in searched:
        plan = run.stored_plan(evaluation.plan_id)
        assert plan is not None
        kept = [len(component.units) for component in plan.sites.values()]
        assert run.plan(evaluation.plan_id).layers()["kept"].tolist() == kept


def test_a_killed_process_loses_nothing(
    run: Run, saved_llama: Path, tmp_path: Path, command: Callable[..., list[str]]
) -> None:
    """Really kill -9 the command in the middle, resume it, and compare with the whole run."""
    out = tmp_path / "run"
    options = [f"--{name}={value}" for name, value in SMALL.items()]
    arguments = command("search", str(saved_llama), *options, "--out", str(out))
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    try:
        landed = _wait_for_evaluations(process, out / "run.sqlite", 5)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert landed < SMALL["evaluations"]
    with Run.open(out) as killed:
        survived = killed.landed()
    assert len(survived) >= landed
    resumed = search(str(saved_llama), out=out, resume=True, **SMALL)
    # all but the scores on other text, which come at the end
    kept = [replace(e, fresh={}, holdout={}) for e in resumed.landed()[: len(survived)]]
    assert kept == survived
    pd.testing.assert_frame_equal(resumed.front(), run.front())


def _wait_for_evaluations(process: subprocess.Popen[bytes], database: Path, count: int) -> int:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the search ended by itself with {process.returncode}"
        if database.is_file():
            with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
                try:
                    (landed,) = connection.execute("select count(*) from evaluations").fetchone()
                except sqlite3.OperationalError:  # its tables are being made
                    landed = 0
            connection.close()
            if landed >= count:
                return int(landed)
        time.sleep(0.02)
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


def test_a_run_in_use_is_refused(run: Run, searched_copy: Path, saved_llama: Path) -> None:
    with (
        Run.resume(searched_copy, run.settings),
        pytest.raises(RunError, match="one process at a time"),
    ):
        search(str(saved_llama), out=searched_copy, resume=True, **SMALL)


def test_a_run_can_be_taken_further(run: Run, saved_llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    search(str(saved_llama), out=out, **{**SMALL, "evaluations": 17})
    further = search(str(saved_llama), out=out, resume=True, **SMALL)
    assert list(further.front()["plan_id"]) == list(run.front()["plan_id"])


def test_other_weights_under_the_same_name_are_refused(
    searched_copy: Path, saved_llama: Path, tmp_path: Path
) -> None:
    folder, settings = tmp_path / "model", searched_copy / "settings.yaml"
    shutil.copytree(saved_llama, folder)
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace(str(saved_llama.resolve()), str(folder)), encoding="utf-8")
    run = Run.open(searched_copy)
    weights = load_file(folder / "model.safetensors")
    weights = {name: weight * 1.01 for name, weight in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match="its weights changed since the search"):
        run.export(run.best("params<=0.8x").plan_id, tmp_path / "export")
    with pytest.raises(RunError, match="its weights changed since the search"):
        search(str(folder), out=searched_copy, resume=True, **SMALL)


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


def test_damaged_calibration_is_refused(searched_copy: Path, saved_llama: Path) -> None:
    path = searched_copy / "calibration.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(RunError, match=r"calibration\.npz` must hold the arrays of its run"):
        search(str(saved_llama), out=searched_copy, resume=True, **SMALL)


def test_a_budget_below_the_smallest_plan_leaves_the_folder_free(
    saved_llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(BudgetError, match=r"the smallest plan of this model has params 0\.\d+x"):
        search(str(saved_llama), out=tmp_path / "run", **{**SMALL, "budget": "params<=0.01x"})
    assert len(search(str(saved_llama), out=tmp_path / "run", **SMALL).front()) > 1


def test_code_of_a_model_that_exits_leaves_the_folder_free(
    saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exits(*_: object) -> None:
        sys.exit(3)

    monkeypatch.setattr("planner.searching.search_model.open_model", exits)
    with pytest.raises(SystemExit):
        search(str(saved_llama), out=tmp_path / "new" / "run", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (
            {"evaluations": 39},
            "`evaluations` counts .* at least the 40 that .*, got 39; raise",
        ),
        ({"tokens": 100}, r"`tokens` counts from .* at least the \d+ that .*, got 100; raise"),
        ({"evaluations": None, "minutes": 1e-9}, "`minutes` counts from .*, got 1e-09; raise"),
    ],
)
def test_limits_that_a_run_is_beyond_are_refused(
    limits: dict[str, Any], said: str, searched_copy: Path, saved_llama: Path
) -> None:
    before = (searched_copy / "settings.yaml").read_bytes()
    with pytest.raises(SettingsError, match=said):
        search(str(saved_llama), out=searched_copy, resume=True, **{**SMALL, **limits})
    assert (searched_copy / "settings.yaml").read_bytes() == before
