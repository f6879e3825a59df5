"""Where a search scores: in its own process, or in workers."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from evaluators.backends.depth_cut import cut_by_bytes
from evaluators.backends.scoring_backend import ScoringBackend
from planner.preparation.prepared_model import PreparedModel
from planner.settings.search import SearchSettings
from planner.workers.pipeline_backend import PipelineBackend
from planner.workers.pool_backend import PoolBackend
from planner.workers.scored_run import ScoredRun, ScoredText, facts_of, make_evaluator
from planner.workers.sorted_weights import map_weights_, save_weights
from planner.workers.stage_line import StageLine
from planner.workers.worker import Worker
from planner.workers.worker_pool import WorkerPool
from search_spaces.atomic_files import scratch_beside
from search_spaces.errors import SettingsError
from search_spaces.models.fingerprint import lasting
from search_spaces.structure.model import ModelStructure

logger = logging.getLogger(__name__)

PROGRAM = ("-m", "planner.workers.scoring_process")
_MOST_EACH = 4
"""Workers for each core."""


class Backends(Protocol):
    """What scores candidates of one model, on one text after the other."""

    def on(self, text: ScoredText) -> ScoringBackend:
        """Return what scores on a text; one that was returned before is not used any more."""
        ...

    @property
    def doing(self) -> str:
        """What workers do, in words; empty: there are none."""
        ...

    @property
    def idle_share(self) -> float:
        """Share of the workers' time in which they waited for others."""
        ...


class LocalBackends:
    """Scores in this process.

    Args:
        prepared: The model.
    """

    doing = ""
    idle_share = 0.0

    def __init__(self, prepared: PreparedModel) -> None:
        self._prepared = prepared

    def on(self, text: ScoredText) -> ScoringBackend:
        """Return an evaluator; see `Backends`."""
        return make_evaluator(self._prepared, text)


class PoolBackends:
    """Scores in workers.

    Args:
        pool: The workers.
        prepared: The model that they score.
    """

    def __init__(self, pool: WorkerPool, prepared: PreparedModel) -> None:
        self._pool = pool
        self._prepared = prepared

    def on(self, text: ScoredText) -> ScoringBackend:
        """Return a backend of workers; see `Backends`."""
        return PoolBackend(self._pool, self._prepared, text)

    @property
    def doing(self) -> str:
        """What workers do; see `Backends`."""
        return str(self._pool)

    @property
    def idle_share(self) -> float:
        """Share of the workers' time in which they waited for others."""
        return self._pool.idle_share


class PipelineBackends:
    """Scores in workers that hold some layers each.

    Args:
        line: The workers.
        prepared: The model that they hold together.
    """

    def __init__(self, line: StageLine, prepared: PreparedModel) -> None:
        self._line = line
        self._prepared = prepared

    def on(self, text: ScoredText) -> ScoringBackend:
        """Return a backend of stages; see `Backends`."""
        return PipelineBackend(self._line, self._prepared, text)

    @property
    def doing(self) -> str:
        """What stages do; see `Backends`."""
        return str(self._line)


def check_workers(settings: SearchSettings) -> None:
    """Refuse more workers than a machine can have any use of.

    Raises:
        SettingsError: If there are.
    """
    most = _MOST_EACH * (os.cpu_count() or 1)
    if settings.workers > most:
        raise SettingsError(
            f"`workers` must be at most {most} on this machine, {_MOST_EACH} for each core, got "
            f"{settings.workers}; lower `--workers`"
        )


def check_stages(settings: SearchSettings, structure: ModelStructure) -> None:
    """Refuse a pipeline of more stages than a model has layers.

    Raises:
        SettingsError: If it is one.
    """
    layers = len(structure.layers)
    if settings.pipeline and settings.workers > layers:
        raise SettingsError(
            f"`workers` must be at most {layers} in a pipeline, the layers of the model, got "
            f"{settings.workers}; lower `--workers`"
        )


@contextmanager
def scoring_backends(settings: SearchSettings, prepared: PreparedModel) -> Iterator[Backends]:
    """Provide what scores candidates of a search, and end its workers afterwards.

    Raises:
        OutputError: If the disk cannot hold the weights that workers share.
    """
    if settings.workers == 1:
        yield LocalBackends(prepared)
        return
    with scratch_beside(prepared.folder / "workers") as scratch:
        threads = max(1, torch.get_num_threads() // settings.workers)
        if settings.pipeline:
            line = _stage_line(settings, prepared, threads, scratch)
            try:
                yield PipelineBackends(line, prepared)
            finally:
                line.close()
            return
        model, path = prepared.dense.loaded.model, scratch / "sorted.weights"
        is_mapped = not prepared.dense.structure.backbone.streamed and model.device.type == "cpu"
        if is_mapped:
            save_weights(model, path)
            map_weights_(model, path)  # memory holds them once
        run = ScoredRun.of(prepared, settings, path if is_mapped else None)
        pool = WorkerPool(
            lambda: Worker(PROGRAM, run, threads), settings.workers, facts_of(prepared)
        )
        try:
            yield PoolBackends(pool, prepared)
        finally:
            pool.close()
            logger.info("workers waited for each other %.1f %% of the time", 100 * pool.idle_share)


def _stage_line(
    settings: SearchSettings, prepared: PreparedModel, threads: int, folder: Path
) -> StageLine:
    """Return the stages of a pipeline, of which none is started yet."""
    layers = prepared.dense.structure.backbone.layers
    layer_bytes = [sum(each.nbytes for each in lasting(layer).values()) for layer in layers]
    cut = cut_by_bytes(layer_bytes, settings.workers)
    stages, facts = [], facts_of(prepared)
    for number, held in enumerate(cut, 1):
        gigabytes = sum(layer_bytes[index] for index in held) / 1e9
        logger.info(
            "stage %d of %d: layers %d to %d, %.2f GB",
            *(number, len(cut), held.start, held.stop - 1, gigabytes),
        )
        run = ScoredRun.of(prepared, settings, None, held)
        stages.append(WorkerPool(partial(Worker, PROGRAM, run, threads), 1, facts))
    return StageLine(stages, cut, folder)
