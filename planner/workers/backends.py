"""Where a search scores: in its own process, or in workers."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

from evaluators.backends.scoring_backend import ScoringBackend
from planner.preparation.prepared_model import PreparedModel
from planner.settings.search import SearchSettings
from planner.workers.pool_backend import PoolBackend
from planner.workers.process_worker import ProcessWorker, wait_for_processes
from planner.workers.ray_cluster import check_ray, ray_cluster
from planner.workers.ray_worker import RayWorker, wait_for_actors
from planner.workers.scored_run import ScoredRun, ScoredText, facts_of, make_evaluator
from planner.workers.scoring_process import open_desk
from planner.workers.sorted_weights import map_weights_, save_weights
from planner.workers.worker import Wait, Worker
from planner.workers.worker_pool import WorkerPool
from search_spaces.atomic_files import scratch_beside
from search_spaces.errors import SettingsError

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


class LocalBackends:
    """Scores in this process.

    Args:
        prepared: The model.
    """

    doing = ""

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
    if settings.workers > most:
        raise SettingsError(
            f"`workers` must be at most {most} on this machine, {_MOST_EACH} for each core, got "
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
        model, path = prepared.dense.loaded.model, scratch / "sorted.weights"
        is_mapped = not prepared.dense.structure.backbone.streamed and model.device.type == "cpu"
        if is_mapped:
            save_weights(model, path)
            map_weights_(model, path)  # memory holds them once
        run = ScoredRun.of(prepared, settings, path if is_mapped else None)
        with _hiring(run) as (start, wait):
            pool = WorkerPool(start, settings.worker_count, facts_of(prepared), wait)
            try:
                yield PoolBackends(pool, prepared)
            finally:
                pool.close()


@contextmanager
def _hiring(run: ScoredRun) -> Iterator[tuple[Callable[[], Worker], Wait]]:
    """Provide what starts a worker, and what waits for such workers."""
    devices = run.settings.worker_devices
    if devices is not None:
        with ray_cluster(run.settings.ray):
            yield lambda: RayWorker(open_desk, run, devices), wait_for_actors
        return
    threads = max(1, torch.get_num_threads() // run.settings.worker_count)
    yield lambda: ProcessWorker(PROGRAM, run, threads), wait_for_processes
