"""Where a search scores: in its own process, or in workers."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from evaluators.backends.depth_cut import cut_by_bytes
from evaluators.backends.scoring_backend import ScoringBackend
from planner.preparation.prepared_model import PreparedModel
from planner.settings.search import SearchSettings
from planner.workers.on_ray.ray_cluster import check_ray, ray_cluster
from planner.workers.on_ray.ray_worker import RayWorker, wait_for_actors
from planner.workers.pipeline.pipeline_backend import PipelineBackend
from planner.workers.pipeline.stage_line import StageLine
from planner.workers.pool_backend import PoolBackend
from planner.workers.process_worker import ProcessWorker, wait_for_processes
from planner.workers.scored_run import ScoredRun, ScoredText, facts_of, make_evaluator
from planner.workers.scoring_process import open_desk
from planner.workers.sorted_weights import map_weights_, save_weights
from planner.workers.worker import Wait, Worker
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

    @property
    def idle_share(self) -> float:
        """Share of the stages' time in which they waited for others."""
        return self._line.idle_share


def check_workers(settings: SearchSettings) -> None:
    """Refuse workers that cannot be, or more than a machine can have any use of.

    Raises:
        SettingsError: If there are.
        MissingExtraError: If they take a package that is not installed.
    """
    if settings.workers == "ray":
        check_ray(settings)
        return
    most = _MOST_EACH * (os.cpu_count() or 1)
    if settings.worker_count > most:
        raise SettingsError(
            f"`workers` must be at most {most} on this machine, {_MOST_EACH} for each core, got "
            f"{settings.worker_count}; lower `--workers`"
        )


def check_stages(settings: SearchSettings, structure: ModelStructure) -> None:
    """Refuse a pipeline of more stages than a model has layers.

    Raises:
        SettingsError: If it is one.
    """
    layers = len(structure.layers)
    if settings.pipeline and settings.worker_count > layers:
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
    if settings.worker_count == 1 and settings.workers != "ray":
        yield LocalBackends(prepared)
        return
    with (
        scratch_beside(prepared.folder / "workers") as scratch,
        _workers(settings, prepared, scratch) as backends,
    ):
        yield backends
        idle = 100 * backends.idle_share
        logger.info("workers waited for each other %.1f %% of the time", idle)


@contextmanager
def _workers(
    settings: SearchSettings, prepared: PreparedModel, scratch: Path
) -> Iterator[Backends]:
    """Provide workers, and end them."""
    if settings.pipeline:
        with closing(_stage_line(settings, prepared, scratch)) as line:
            yield PipelineBackends(line, prepared)
        return
    model, path = prepared.dense.loaded.model, scratch / "sorted.weights"
    is_mapped = not prepared.dense.structure.backbone.streamed and model.device.type == "cpu"
    if is_mapped:
        save_weights(model, path)
        map_weights_(model, path)  # memory holds them once
    run = ScoredRun.of(prepared, settings, path if is_mapped else None)
    with (
        _hiring(run) as (start, wait),
        closing(WorkerPool(start, settings.worker_count, facts_of(prepared), wait)) as pool,
    ):
        yield PoolBackends(pool, prepared)


@contextmanager
def _hiring(run: ScoredRun) -> Iterator[tuple[Callable[[], Worker], Wait]]:
    """Provide what starts a worker, and what waits for such workers."""
    devices = run.settings.worker_devices
    if devices is not None:
        with ray_cluster(run.settings.ray):
            yield lambda: RayWorker(open_desk, run, devices), wait_for_actors
        return
    yield partial(ProcessWorker, PROGRAM, run, _threads(run.settings)), wait_for_processes


def _threads(settings: SearchSettings) -> int:
    """Return the threads of torch that each process of this machine has."""
    return max(1, torch.get_num_threads() // settings.worker_count)


def _stage_line(settings: SearchSettings, prepared: PreparedModel, folder: Path) -> StageLine:
    """Return the stages of a pipeline, of which none is started yet."""
    layers = prepared.dense.structure.backbone.layers
    layer_bytes = [sum(each.nbytes for each in lasting(layer).values()) for layer in layers]
    cut = cut_by_bytes(layer_bytes, settings.worker_count)
    stages, facts = [], facts_of(prepared)
    for number, held in enumerate(cut, 1):
        gigabytes = sum(layer_bytes[index] for index in held) / 1e9
        logger.info(
            "stage %d of %d: layers %d to %d, %.2f GB",
            *(number, len(cut), held.start, held.stop - 1, gigabytes),
        )
        run = ScoredRun.of(prepared, settings, None, held)
        start = partial(ProcessWorker, PROGRAM, run, _threads(settings))
        stages.append(WorkerPool(start, 1, facts))
    return StageLine(stages, cut, folder)
