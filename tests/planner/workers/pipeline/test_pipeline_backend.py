"""A pipeline scores as one process does, whatever is asked of it; its stages are in this one."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluators.backends.stage import Stage
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.score import Score
from planner.workers.messages import Task
from planner.workers.pipeline.pipeline_backend import PipelineBackend
from planner.workers.pipeline.stage_line import Passage
from planner.workers.scored_run import ScoredText
from search_spaces.errors import SettingsError
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.layer_builder import LayerBuilder
from search_spaces.surgery.sort import sorted_as_is
from tests.models import tiny
from tests.models.noisy_formats import noisy_builder

pytestmark = pytest.mark.arithmetic
WINDOWS = tiny.windows(6)
RUNGS = (2, 6)
NOISE = {"Q8_0": 0.1, "Q4_0": 0.4}
OF_ENDS = (1, 3, 5)
"""Configurations of an end: as it is stored, and in each format."""


class LineInside:
    """Stages in this process, which do one task after the other."""

    layers = (range(1), range(1, 3))

    def __init__(self, stages: list[Stage], folder: Path) -> None:
        self._stages, self._folder = stages, folder
        self._given: deque[tuple[Passage, Task]] = deque()
        self._files = 0
        self.passed: list[tuple[int, int]] = []
        """Stages, and groups that entered them at once."""

    def begin(self) -> None:
        self._given.clear()

    def give(self, passage: Passage, task: Task) -> None:
        self._given.append((passage, task))

    def landings(self) -> Iterator[tuple[Passage, int, Any]]:
        while self._given:
            passage, task = self._given.popleft()
            self.passed.append((passage.stage, len(passage.groups)))
            method = getattr(self._stages[passage.stage], task.method)
            of_each = {name: [*each] for name, each in task.of_each.items()}
            for group, result in method(task.configurations, **task.arguments, **of_each):
                yield passage, group, result

    def file(self) -> Path:
        self._files += 1
        return self._folder / str(self._files)


def builder(structure: ModelStructure) -> LayerBuilder:
    return noisy_builder(structure, NOISE)


def pipeline(
    structure: ModelStructure, fidelity: Fidelity, folder: Path
) -> tuple[PipelineBackend, LineInside]:
    sorted_model, layer_builder = sorted_as_is(structure), builder(structure)
    line = LineInside(
        [
            Stage(sorted_model, WINDOWS, fidelity, layer_builder=layer_builder, layers=layers)
            for layers in LineInside.layers
        ],
        folder,
    )
    prepared = SimpleNamespace(
        dense=SimpleNamespace(structure=structure),
        sorted_model=sorted_model,
        layer_builder=layer_builder,
        calibration=SimpleNamespace(search=WINDOWS),
    )
    text = ScoredText(split="search", fidelity=fidelity)
    return PipelineBackend(cast("Any", line), cast("Any", prepared), text), line


def candidates(structure: ModelStructure) -> NDArray[np.int_]:
    """Widths that some share, twice the same one, with ends of every format."""
    rng = np.random.default_rng(0)
    widths = tiny.random_counts(structure, 4, rng)[[0, 1, 0, 2, 0, 1, 3, 3]]
    for position in range(len(structure.in_layers), len(structure.components)):
        widths[:, position] = rng.choice(OF_ENDS, size=len(widths))
    widths[1:3, : len(structure.in_layers) - 1] = widths[0, : len(structure.in_layers) - 1]
    widths[-1] = widths[-2]
    return widths


def bits(scores: Iterator[tuple[int, Score]]) -> dict[int, tuple[int, bytes, bytes]]:
    return {
        member: (score.tokens, score.by_window["kl"].tobytes(), score.by_window["nll"].tobytes())
        for member, score in scores
    }


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("sweep_bytes", [1, 2**30])
def test_every_rung_and_any_windows_score_as_by_one_process(
    tied: bool, sweep_bytes: int, tmp_path: Path
) -> None:
    structure = tiny.llama(tied=tied).with_ends()
    fidelity = Fidelity(
        rungs=RUNGS, batch_tokens=36, metrics=("kl", "nll"), sweep_bytes=sweep_bytes
    )
    backend, line = pipeline(structure, fidelity, tmp_path)
    evaluator = Evaluator(
        sorted_as_is(structure), WINDOWS, fidelity, layer_builder=builder(structure)
    )
    population = candidates(structure)
    assert backend.rungs == evaluator.rungs == RUNGS
    for rung in (0, 1, None):
        assert bits(backend.score(population, rung)) == bits(evaluator.score(population, rung))
    for windows in ((5, 0, 2, 1), (4,)):
        assert bits(backend.sample(population, windows)) == bits(
            evaluator.sample(population, windows)
        )
    most = max(groups for stage, groups in line.passed if stage == 0)
    # a hidden state for each embedding and first layer, or few at a time where these are large
    embedding = len(structure.in_layers)
    assert structure.ends[0].kind == "embedding"
    prefixes = np.unique(population[:, [embedding, 0, 1]], axis=0)
    assert most == (1 if sweep_bytes == 1 else len(prefixes))
    assert len(prefixes) < len(population)


def test_logits_that_are_no_numbers_are_told_of(tmp_path: Path) -> None:
    structure = tiny.llama(tied=False).with_ends()
    with torch.no_grad():
        head = structure.backbone.model.get_parameter("lm_head.weight")
        head[3] = torch.nan
    backend, _ = pipeline(structure, Fidelity(metrics=("kl", "nll")), tmp_path)
    failures = {score.failure for _, score in backend.score(candidates(structure))}
    assert failures == {"its logits hold NaN or infinity"}


def test_gradients_are_refused(tmp_path: Path) -> None:
    structure = tiny.llama().with_ends()
    backend, _ = pipeline(structure, Fidelity(), tmp_path)
    with pytest.raises(SettingsError, match="gradients need all layers in one process"):
        backend.slopes(candidates(structure), [], gates=True)
