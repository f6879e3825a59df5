"""What a search would take, and how workers would share it, without searching."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.backends.population_cut import PopulationCut, PopulationCutter
from planner.preparation.prepared_model import PreparedModel
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.moves import mutate
from planner.searching.forecast import outlook
from planner.searching.problem import Problem
from planner.searching.scorer import search_scorer
from planner.searching.search_model import open_prepared, open_run
from planner.settings.search import SearchSettings
from planner.workers.backends import LocalBackends
from search_spaces.progress import Progress

_PARENTS = 4
"""Plans whose children stand for a generation, at costs as far apart as they can be."""


def dry_run(settings: SearchSettings, out: Path, *, progress: Progress) -> Iterator[str]:
    """Prepare a search, yield sentences on what it would take, and leave nothing of it.

    Args:
        settings: Of the search; more workers than this machine has any use of may be asked for.
        out: The run's folder, new or empty; deleted afterwards.
        progress: Receives stages and progress.

    Raises:
        InputError: As the search would.
    """
    workers = settings.worker_count
    alone = settings.model_copy(update={"workers": 1, "ray": None, "worker_devices": None})
    with open_run(out, alone, resume=False, is_kept=False) as run:
        prepared = open_prepared(run, progress)
        domain = Problem.of(run.settings, prepared).domain(prepared)
        progress.stage("timing one plan")
        scorer = search_scorer(prepared, run.settings, LocalBackends(prepared))
        yield from outlook(run, prepared, scorer, domain)
        if workers > 1:
            generation = relatives(domain, settings.population, settings.seed)
            yield sharing(cut_of(prepared, generation, workers), workers)


def relatives(domain: Domain, count: int, seed: int) -> NDArray[np.int_]:
    """Return plans that share as much as those of a generation, ``(count, sites)``."""
    costs = np.linspace(domain.cost_floor, domain.cost_ceiling, _PARENTS + 2)[1:-1]
    no_tilt = np.zeros(len(domain.top_levels))
    parents = np.stack([domain.by_prior(float(cost), no_tilt) for cost in costs])
    families = parents[np.arange(count) % _PARENTS]
    return mutate(domain, families, np.random.default_rng(seed))


def cut_of(prepared: PreparedModel, genomes: NDArray[np.int_], workers: int) -> PopulationCut:
    """Return how genomes ``(genomes, sites)`` of a model are cut for some workers."""
    space, tokens = prepared.space, prepared.calibration.search.shape[1]
    cutter, order = PopulationCutter.of(prepared.sorted_model, prepared.layer_builder, tokens)
    return cutter.cut(space.configurations(space.repaired(genomes))[:, order], workers)


def sharing(cut: PopulationCut, workers: int) -> str:
    """Say how workers share a population."""
    sizes = sorted(map(len, cut.parts))
    again = sum(cut.work) / cut.whole_work - 1
    return (
        f"a generation of {sum(sizes)} plans would be cut into {len(sizes)} parts of {sizes[0]} "
        f"to {sizes[-1]} plans for {workers} workers, the dearest with "
        f"{cut.work[0] / cut.whole_work:.0%} of the products: scored {cut.speed_up(workers):.1f} "
        f"times as fast as by one of them, if each has cores of its own, with {again:.0%} more "
        "products for prefixes that are run anew; the minutes above are those of one process"
    )
