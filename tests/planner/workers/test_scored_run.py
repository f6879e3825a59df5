"""What a worker is told of the run that it scores."""

from pathlib import Path
from typing import Any, cast

import pytest

from evaluators.runtime import DTypeName
from planner.preparation.dense_model import open_model
from planner.preparation.prepared_model import PreparedModel
from planner.settings.search import SearchSettings
from planner.workers.scored_run import ScoredRun
from search_spaces.progress import NO_PROGRESS


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_workers_compute_in_the_format_that_the_search_found_fastest(
    dtype: DTypeName, saved_llama: Path, tmp_path: Path
) -> None:
    """What is measured may differ from process to process; the search's answer holds."""
    settings = SearchSettings.checked(model=str(saved_llama))
    assert settings.dtype == "auto"
    nothing = cast("Any", None)
    prepared = PreparedModel(
        dense=open_model(settings.model_copy(update={"dtype": dtype}), NO_PROGRESS),
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
    assert run.settings == settings.model_copy(update={"dtype": dtype})
    assert run.folder == tmp_path
