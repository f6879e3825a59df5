"""Products that sum over many numbers: kernels share such a sum among threads."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.scoring.batches import Fidelity
from planner.preparation.dense_model import open_model
from planner.preparation.prepare import prepare
from planner.settings.search import SearchSettings
from planner.workers.backends import PROGRAM, LocalBackends, PoolBackends
from planner.workers.process_worker import ProcessWorker
from planner.workers.scored_run import ScoredRun, ScoredText, facts_of
from planner.workers.worker_pool import WorkerPool
from search_spaces.progress import NO_PROGRESS
from tests.models.factory import make_model, save_model
from tests.models.families import FAMILIES
from tests.settings import SHORT_TEXT

pytestmark = pytest.mark.arithmetic
CHANNELS, THREADS = 1_792, 2


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_with_equal_threads_wide_float32_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    config = FAMILIES["llama"].config(layers=2, intermediate_size=CHANNELS)
    settings = SearchSettings.checked(
        model=str(save_model(make_model(config), tmp_path / "model")),
        dtype="float32",
        device="cpu",
        compensate="none",
        **SHORT_TEXT,
    )
    prepared = prepare(open_model(settings, NO_PROGRESS), settings, tmp_path, NO_PROGRESS)
    space, rng = prepared.space, np.random.default_rng(0)
    genomes = rng.integers(space.top_levels + 1, size=(6, len(space.sites)))
    configurations = space.configurations(space.repaired(np.vstack([genomes, space.top_levels])))
    text = ScoredText(split="search", fidelity=Fidelity())
    run = ScoredRun.of(prepared, settings, None)
    start = partial(ProcessWorker, PROGRAM, run, THREADS)
    with closing(WorkerPool(start, 1, facts_of(prepared))) as pool:
        by_workers = dict(PoolBackends(pool, prepared).on(text).score(configurations))
    by_one = dict(LocalBackends(prepared).on(text).score(configurations))
    assert len(by_one) == len(configurations)
    for member, score in by_one.items():
        for name, values in score.by_window.items():
            assert values.tobytes() == by_workers[member].by_window[name].tobytes()
