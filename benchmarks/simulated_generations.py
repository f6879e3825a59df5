"""How long generations of several kinds would take many workers, by what their parts take one."""

from collections.abc import Mapping
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from benchmarks.component_times import ComponentTimes
from benchmarks.report import Row
from benchmarks.shipped_states import state_row
from benchmarks.simulated_workers import alone, simulate
from benchmarks.smollm2 import SEED, param_domain
from evaluators.backends.population_cut import PopulationCutter
from evaluators.scoring.batches import Fidelity, WindowBatches
from evaluators.scoring.prefix_tree import PrefixTree
from planner.preparation.prepared_model import PreparedModel
from planner.searching.dry_run import relatives

MANY: Mapping[int, float] = {8: 0.9, 64: 0.8}
"""Workers that are simulated, and the share of their time that is to go into a generation."""
PLANS_EACH = 16
"""Plans for each of them in a generation."""
_RUNS = 5
"""Of each simulation, whose means are shown."""


def simulated_generations(
    prepared: PreparedModel, genomes: NDArray[np.int_]
) -> tuple[list[Row], Row]:
    """Let many workers score populations of three kinds, on a simulated clock.

    Args:
        prepared: The model.
        genomes: Plans whose components are timed, ``(plans, sites)``.

    Returns:
        How they did, and what it takes to pass on a hidden state of the same text.
    """
    tree = PrefixTree(prepared.sorted_model, prepared.layer_builder)
    windows = prepared.calibration.search
    batch = WindowBatches(tree.structure.backbone, windows, Fidelity()).of_rung(0)[0]
    configurations = configurations_of(prepared, genomes)
    times = ComponentTimes.measured(tree, configurations, batch, SEED)
    cutter, order = PopulationCutter.of(
        prepared.sorted_model, prepared.layer_builder, windows.shape[1]
    )
    cut = cutter.cut(configurations[:, order], len(configurations))
    for part, amounts in zip(cut.parts, cut.amounts, strict=True):
        cutter.seconds.learn(amounts, alone(times, configurations[part][:, order]).seconds)
    rows: list[Row] = []
    for workers in MANY:
        for name, drawn in _populations(prepared, PLANS_EACH * workers).items():
            population = configurations_of(prepared, drawn)[:, order]
            runs = [simulate(cutter, times, population, workers) for _ in range(_RUNS)]
            cut = cutter.cut(population, workers)
            one = fmean(alone(times, population).seconds for _ in range(_RUNS))
            rows.append(
                {
                    "population": name,
                    "plans": len(drawn),
                    "workers": workers,
                    "parts": len(cut.parts),
                    "run anew, %": 100 * (sum(cut.work) / cut.whole_work - 1),
                    "by the cut": cut.speed_up(workers) / workers,
                    "efficiency": one / workers / fmean(run.seconds for run in runs),
                    "idle, %": 100 * fmean(run.idle_share for run in runs),
                }
            )
    dense = configurations_of(prepared, prepared.space.top_levels[None])[0, order]
    return rows, state_row(batch.inputs.hidden, dense, times)


def _populations(prepared: PreparedModel, count: int) -> Mapping[str, NDArray[np.int_]]:
    """Return populations by what they are, each ``(plans, sites)``."""
    space, rng = prepared.space, np.random.default_rng(SEED)
    sites = np.repeat(np.arange(len(space.sites)), space.top_levels)
    single = np.tile(space.top_levels, (len(sites), 1))
    levels = [np.arange(top) for top in space.top_levels]  # all but the dense one
    single[np.arange(len(sites)), sites] = np.concatenate(levels)
    return {
        "single sites": single,
        "offspring": relatives(param_domain(prepared), count, SEED),
        "diverse": rng.integers(space.top_levels + 1, size=(count, len(space.sites))),
    }


def configurations_of(prepared: PreparedModel, genomes: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return the configurations of genomes ``(genomes, sites)``, repaired."""
    return prepared.space.configurations(prepared.space.repaired(genomes))
