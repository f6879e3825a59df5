"""Where a search scores: in its own process, or in workers."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

from evaluators.backends.scoring_backend import ScoringBackend
from planner.preparation.prepared_model import PreparedModel
from planner.settings.search import SearchSettings
from planner.workers.pool_backend import PoolBackend
from planner.workers.scored_run import ScoredRun, ScoredText, facts_of, make_evaluator
from planner.workers.sorted_weights import map_weights_, save_weights
from planner.workers.worker import Worker
from planner.workers.worker_pool import WorkerPool
from search_spaces.atomic_files import scratch_beside
from search_spaces.errors import SettingsError

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


def check_workers(settings: SearchSettings) -> None:
    """Refuse more workers than a machine can have any use of.

    Raises:
        SettingsError: If there are.
    """
    most = _MOST_EACH * (os.cpu_count() or 1)
    if settings.worker_count > most:
        raise SettingsError(
            f"`workers` must be at most {most} on this machine, {_MOST_EACH} for each core, got "
            f"{settings.worker_count}; lower `--workers`"
        )


@contextmanager
def scoring_backends(settings: SearchSettings, prepared: PreparedModel) -> Iterator[Backends]:
    """Provide what scores candidates of a search, and end its workers afterwards.

    Raises:
        OutputError: If the disk cannot hold the weights that workers share.
    """
    if settings.worker_count == 1:
        yield LocalBackends(prepared)
        return
    with scratch_beside(prepared.folder / "workers") as scratch:
        model, path = prepared.dense.loaded.model, scratch / "sorted.weights"
        is_mapped = not prepared.dense.structure.backbone.streamed and model.device.type == "cpu"
        if is_mapped:
            save_weights(model, path)
            map_weights_(model, path)  # memory holds them once
        run = ScoredRun.of(prepared, settings, path if is_mapped else None)
        threads = max(1, torch.get_num_threads() // settings.worker_count)
        pool = WorkerPool(
            lambda: Worker(PROGRAM, run, threads), settings.worker_count, facts_of(prepared)
        )
        try:
            yield PoolBackends(pool, prepared)
        finally:
            pool.close()
            logger.info("workers waited for each other %.1f %% of the time", 100 * pool.idle_share)
