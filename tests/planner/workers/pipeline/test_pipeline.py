"""A search by stages of a pipeline is the search of one process, bit for bit."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from planner import Run, search
from planner.settings.search import SearchSettings
from planner.workers import backends
from search_spaces.errors import SettingsError
from search_spaces.models.streaming import LayerStream
from tests.models.factory import LAYERS, VOCABULARY
from tests.planner.workers.disturbed_search import Disturbing, scores, workers
from tests.planner.workers.pipeline.counted_process import LOG, layers_read
from tests.settings import SMALL

pytestmark = pytest.mark.arithmetic
# no gradients, which a pipeline has none of
RACED: dict[str, Any] = {
    **SMALL,
    "searcher": "nsga2",
    "search_windows": 16,
    "window_tokens": 8,
    "evaluations": 24,
}
STAGES = 2


class Watching(Disturbing):
    """Kills a stage once some plans are scored, and counts layers that the search itself reads."""

    def __init__(self) -> None:
        super().__init__(12, lambda: os.kill(workers()[-1], signal.SIGKILL))
        self.read: list[str] = []
        """The stage of the search in which each layer was read."""


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is streamed does not write its own text."""
    path = tmp_path_factory.mktemp("text") / "words.txt"
    drawn = np.random.default_rng(0).integers(3, VOCABULARY, size=4000)
    path.write_text(" ".join(f"w{word}" for word in drawn))
    return path


@pytest.fixture(scope="module")
def by_one(saved_llama: Path, words: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("one") / "run"
    return search(str(saved_llama), out=out, data=str(words), offload="never", **RACED)


@pytest.fixture(scope="module")
def progress() -> Watching:
    return Watching()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "layers"


@pytest.fixture(scope="module")
def by_stages(
    saved_llama: Path,
    words: Path,
    log: Path,
    progress: Watching,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    out, read = tmp_path_factory.mktemp("stages") / "run", LayerStream._read

    def counted(stream: LayerStream, index: int) -> None:
        progress.read.append(progress.stages[-1])
        read(stream, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            backends, "PROGRAM", ("-m", "tests.planner.workers.pipeline.counted_process")
        )
        patch.setattr(LayerStream, "_read", counted)
        patch.setenv(LOG, str(log))
        settings = {**RACED, "workers": STAGES, "pipeline": True}
        return search(str(saved_llama), out=out, data=str(words), progress=progress, **settings)


def test_the_scores_are_the_same_bit_for_bit(by_one: Run, by_stages: Run) -> None:
    assert scores(by_one) == scores(by_stages)
    assert len(scores(by_one)) >= 24
    pd.testing.assert_frame_equal(by_one.front(), by_stages.front(), check_exact=True)


def test_a_stage_reads_its_layers_when_it_starts_and_none_again(by_stages: Run, log: Path) -> None:
    read = layers_read(log)
    assert len(read) == STAGES + 1  # one was killed
    held = [before[-LAYERS // STAGES :] for before, _ in read.values()]
    assert sorted(map(tuple, held[:STAGES])) == [(0, 1, 2), (3, 4, 5)]
    assert held[STAGES] in held[:STAGES]
    assert [after for _, after in read.values()] == [[]] * (STAGES + 1)


def test_the_search_itself_reads_no_layer_once_it_scores(
    by_stages: Run, progress: Watching
) -> None:
    assert progress.read
    assert "searching" in progress.stages
    begun = progress.stages.index("timing one plan")
    assert not set(progress.read) & set(progress.stages[begun:])


def test_a_plan_is_recovered_alike(by_one: Run, by_stages: Run) -> None:
    plans = [run.recover(run.best(SMALL["budget"]).plan_id) for run in (by_one, by_stages)]
    one, stages = (plan.recovered["refit"].by_split for plan in plans)
    assert one["search"]
    assert one == stages


def test_stages_leave_nothing_behind(by_one: Run, by_stages: Run) -> None:
    assert workers() == []
    names = [sorted(path.name for path in run.folder.iterdir()) for run in (by_one, by_stages)]
    assert names[0] == names[1]
    assert not [each for each in psutil.Process().children() if "counted" in str(each.cmdline())]


def test_progress_tells_of_them(by_stages: Run, progress: Watching) -> None:
    assert any("2 of 2 stages of a pipeline" in text for text in progress.notes)


def test_more_stages_than_layers_are_refused(
    saved_llama: Path, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: LAYERS)
    rule = rf"`workers` must be at most {LAYERS} in a pipeline, the layers of the model, got 7;"
    settings = {**RACED, "workers": LAYERS + 1, "pipeline": True}
    with pytest.raises(SettingsError, match=rule):
        search(str(saved_llama), out=tmp_path / "run", data=str(words), **settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [1, "auto"])
def test_a_pipeline_of_one_worker_is_refused(workers: int | str) -> None:
    rule = f"`pipeline` needs 2 `workers` at least, .*, got {workers};"
    with pytest.raises(SettingsError, match=rule):
        SearchSettings.checked(model="m", workers=workers, pipeline=True)


def test_a_pipeline_of_a_model_that_is_loaded_whole_is_refused() -> None:
    rule = "`pipeline` reads layers from disk where they are held, got `--offload never`;"
    with pytest.raises(SettingsError, match=rule):
        SearchSettings.checked(model="m", workers=2, pipeline=True, offload="never")
