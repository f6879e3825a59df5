"""What `--dtype auto` found as a run began holds for all that is done with the run."""

import json
from pathlib import Path

import pytest
import torch

from evaluators.runtime.device import BFLOAT16_VARIABLE, pick_dtype
from planner import Run, search
from planner.preparation.dense_model import as_begun, scoring_note
from planner.recovery.opened_run import run_to_recover
from planner.settings.search import SearchSettings
from search_spaces.progress import NO_PROGRESS
from tests.settings import SMALL

AUTO = SearchSettings.checked(model="m", device="cpu")


@pytest.fixture
def begun(searched_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run on a machine that finds the other format faster since it began."""
    run = Run.open(searched_copy)
    monkeypatch.setenv(BFLOAT16_VARIABLE, "1" if "float32" in run.arithmetic else "0")
    assert pick_dtype("auto", "cpu") != dtype_of(run)
    return run


def dtype_of(run: Run) -> torch.dtype:
    """The format that plans of a run were scored in."""
    dtype = getattr(torch, run.arithmetic.removeprefix("torch.").partition(" ")[0])
    assert isinstance(dtype, torch.dtype)
    return dtype


def test_a_run_is_resumed_and_exported_in_it(
    begun: Run, saved_llama: Path, tmp_path: Path
) -> None:
    longer = SMALL["evaluations"] + 1
    settings = {**SMALL, "evaluations": longer}
    with search(str(saved_llama), out=begun.folder, resume=True, **settings) as run:
        assert run.settings.dtype == "auto"
        assert run.evaluation_count >= longer
        folder = run.export(run.best("params<=0.8x").plan_id, tmp_path / "export")
    manifest = json.loads((folder / "manifest.json").read_text())
    served = manifest["service"]["served_as"]
    assert served["dtype"] == str(dtype_of(begun)).removeprefix("torch.")


def test_its_plans_are_recovered_in_it(begun: Run) -> None:
    with run_to_recover(begun.folder, NO_PROGRESS) as (_, prepared):
        assert prepared.dense.loaded.model.dtype == dtype_of(begun)


def test_a_format_that_was_asked_for_is_not_touched() -> None:
    asked = AUTO.model_copy(update={"dtype": "float16"})
    assert as_begun(asked, "torch.float32 on cpu") == asked


@pytest.mark.parametrize("arithmetic", [None, "", "torch.float32 on cuda:0", "rubbish"])
def test_where_a_run_says_nothing_of_such_a_device_it_is_measured(
    arithmetic: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BFLOAT16_VARIABLE, "1")
    assert as_begun(AUTO, arithmetic) == AUTO
    assert "bfloat16 on cpu (auto: this CPU is faster in it)" in scoring_note(AUTO, arithmetic)


def test_the_note_says_where_the_format_is_from() -> None:
    note = scoring_note(AUTO, "torch.float32 on cpu")
    assert note == "scoring in float32 on cpu (auto: as the run began)"
