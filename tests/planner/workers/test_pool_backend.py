"""What a backend of workers does by itself."""

from pathlib import Path

import numpy as np
import pytest

from evaluators.scoring.batches import Fidelity
from planner.workers.pool_backend import PoolBackend
from planner.workers.scored_run import ScoredText, make_evaluator
from planner.workers.worker import Worker
from planner.workers.worker_pool import WorkerPool
from tests.planner.recovery.prepared_plans import prepared_model

TEXT = ScoredText(split="search", fidelity=Fidelity())


def nobody() -> Worker:
    raise AssertionError("nobody is to be hired")


@pytest.mark.arithmetic
def test_gradients_of_one_candidate_are_taken_by_the_search_itself(
    saved_llama: Path, tmp_path: Path
) -> None:
    prepared = prepared_model(saved_llama, tmp_path / "prepared")
    one = prepared.space.configurations(prepared.space.top_levels[None] // 2)
    backend = PoolBackend(WorkerPool(nobody, 2), prepared, TEXT)
    ((member, found),) = backend.slopes(one, [{}], gates=True)
    ((_, expected),) = make_evaluator(prepared, TEXT).slopes(one, [{}], gates=True)
    assert member == 0
    assert found.gates is not None
    assert expected.gates is not None
    assert all(map(np.array_equal, found.gates, expected.gates))
