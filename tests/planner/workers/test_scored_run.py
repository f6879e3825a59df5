"""What a worker is told of the run that it scores."""

from pathlib import Path
from socket import gethostname
from typing import Any, cast

import pytest

from evaluators.runtime import DTypeName
from planner.preparation.dense_model import open_model
from planner.preparation.prepared_model import PreparedModel
from planner.settings.search import SearchSettings
from planner.workers.scored_run import OpenedRun, ScoredRun
from search_spaces.errors import ModelError, RunError
from search_spaces.models import Offload
from search_spaces.progress import NO_PROGRESS
from tests import TORCH_THREADS


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("offload", ["always", "never"])
def test_workers_compute_as_the_search_found_best(
    dtype: DTypeName, offload: Offload, saved_llama: Path, tmp_path: Path
) -> None:
    """What is measured may differ from process to process; the search's answers hold."""
    settings = SearchSettings.checked(model=str(saved_llama))
    assert (settings.dtype, settings.offload) == ("auto", "auto")
    found = {"dtype": dtype, "offload": offload}
    nothing = cast("Any", None)
    prepared = PreparedModel(
        dense=open_model(settings.model_copy(update=found), NO_PROGRESS),
        sorted_model=nothing,
        space=nothing,
        calibration=nothing,
        prior=nothing,
        layer_builder=nothing,
        weight_record=nothing,
        methods=nothing,
        folder=tmp_path,
    )
    run = ScoredRun.of(prepared, settings, None)
    assert run.settings == settings.model_copy(update=found)
    assert run.folder == tmp_path.resolve()


def test_a_worker_that_does_not_find_the_folder_says_where_it_looked(tmp_path: Path) -> None:
    run = ScoredRun(
        folder=tmp_path / "gone",
        settings=SearchSettings.checked(model="m"),
        weights_file=None,
        model_fingerprint="",
    )
    with pytest.raises(RunError, match=f"got no `{tmp_path / 'gone'}` on {gethostname()}; put it"):
        OpenedRun.of(run, TORCH_THREADS)


def test_a_worker_that_finds_another_model_refuses_it(saved_llama: Path, tmp_path: Path) -> None:
    settings = SearchSettings.checked(model=str(saved_llama), dtype="float32")
    run = ScoredRun(
        folder=tmp_path, settings=settings, weights_file=None, model_fingerprint="of another"
    )
    rule = f"must have the model of the search, got another `{saved_llama}` on {gethostname()}; "
    with pytest.raises(ModelError, match=rule):
        OpenedRun.of(run, TORCH_THREADS)
