"""Scoring genomes with a prepared model: configurations, quality, costs, and plan identity."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.backends.scoring_backend import ScoringBackend
from evaluators.runtime.allocator import release_pages
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.by_gradient.gate_gradients import PASSES as GATE_PASSES
from evaluators.scoring.by_gradient.gate_gradients import GateGradients
from evaluators.scoring.by_gradient.output_fisher import PASSES as FISHER_PASSES
from evaluators.scoring.by_gradient.output_fisher import OptionSensitivities
from evaluators.scoring.by_gradient.slopes import Slopes
from evaluators.scoring.racing import rungs_of
from evaluators.scoring.score import Score
from planner.preparation.prepared_model import PreparedModel
from planner.runs.records import Evaluation, RoundReply
from planner.settings.search import SearchSettings
from planner.workers.backends import Backends
from planner.workers.scored_run import ScoredText
from search_spaces.space.block_options import FORMAT_DIMENSIONS
from search_spaces.space.space import SearchSpace


class Scorer:
    """Scores genomes of a prepared model's space on one set of windows, a rung at a time.

    Args:
        prepared: Model, space and costs.
        backend: Scores their configurations on the windows.
    """

    def __init__(self, prepared: PreparedModel, backend: ScoringBackend) -> None:
        self.prepared = prepared
        self._backend = backend
        self.rungs = backend.rungs
        self.window_tokens = prepared.calibration.search.shape[1]

    def score(
        self, genomes: NDArray[np.int_], rung: int | None = None
    ) -> Iterator[tuple[int, Evaluation]]:
        """Score genomes ``(genomes, sites)``; see `GenomeScorer`."""
        configurations = self._configurations(genomes)
        return self._evaluations(
            genomes, configurations, self._backend.score(configurations, rung)
        )

    def sample(
        self, genomes: NDArray[np.int_], windows: Sequence[int]
    ) -> Iterator[tuple[int, Evaluation]]:
        """Score genomes ``(genomes, sites)`` on some windows only; see `GenomeScorer`."""
        configurations = self._configurations(genomes)
        return self._evaluations(
            genomes, configurations, self._backend.sample(configurations, windows)
        )

    def gradients(self, genomes: NDArray[np.int_]) -> Iterator[tuple[int, RoundReply]]:
        """Estimate the change of KL by each step; see `GenomeScorer`.

        Gradients of gates on the units say what pruning does to first order, and the Fisher
        information of what components add says what options do to second order.
        """
        space = self.prepared.space
        genomes = space.repaired(genomes)
        configurations = space.configurations(genomes)
        steps = [Steps(space, *each) for each in zip(genomes, configurations, strict=True)]
        asked = [each.asked() for each in steps]
        has_units = any(site.dimension == "units" for site in space.sites)
        for index, slopes in self._backend.slopes(configurations, asked, gates=has_units):
            values, passes = steps[index].of(slopes), float(GATE_PASSES if has_units else 0)
            if asked[index]:
                passes += FISHER_PASSES + len(slopes.options) / len(configurations[index])
            yield (
                index,
                RoundReply(
                    values=np.concatenate([values[site] for site in range(len(values))]),
                    tokens=round(passes * self.rungs[0] * self.window_tokens),
                    seconds=slopes.seconds,
                ),
            )

    def _evaluations(
        self,
        genomes: NDArray[np.int_],
        configurations: NDArray[np.int_],
        scores: Iterator[tuple[int, Score]],
    ) -> Iterator[tuple[int, Evaluation]]:
        repaired = self.prepared.space.repaired(genomes)
        costs = self.prepared.dense.costs.costs(configurations)
        for index, score in scores:
            yield (
                index,
                Evaluation(
                    genome=tuple(genomes[index].tolist()),
                    plan_id=self.prepared.space.plan(repaired[index]).plan_id,
                    round=0,
                    score=score,
                    costs={name: float(values[index]) for name, values in costs.items()},
                ),
            )

    def expect(self, parents: NDArray[np.int_]) -> None:
        """Prepare for children of these genomes ``(parents, sites)``."""
        self._backend.expect(self._configurations(parents))

    def _configurations(self, genomes: NDArray[np.int_]) -> NDArray[np.int_]:
        return self.prepared.space.configurations(self.prepared.space.repaired(genomes))


def search_scorer(prepared: PreparedModel, settings: SearchSettings, backends: Backends) -> Scorer:
    """Return what scores genomes on the search text of a run, as its settings say."""
    release_pages()  # what loading and calibration needed
    # a streamed model reads all weights for each rung, which costs more than the text it saves
    streamed = prepared.dense.structure.backbone.streamed and not settings.pipeline
    windows = prepared.calibration.search
    fidelity = Fidelity(
        rungs=rungs_of(
            len(windows), most_rungs=1 if settings.racing == "off" or streamed else settings.rungs
        ),
        positions=settings.positions,
        seed=settings.seed,
    )
    return Scorer(prepared, backends.on(ScoredText(split="search", fidelity=fidelity)))


@dataclass(frozen=True)
class Steps:
    """What a step from a genome to each level of each site is expected to change of KL."""

    space: SearchSpace
    genome: NDArray[np.int_]
    """``(sites,)``"""
    configurations: NDArray[np.int_]
    """Of the genome, ``(components,)``."""

    def of(self, slopes: Slopes) -> dict[int, NDArray[np.float64]]:
        """Sum, for each level of each site, what slopes say, of units nothing without gates."""
        tables = self.space.tables
        flat = tuple(np.zeros(table.unit_count) for table in tables)
        return self.of_units(slopes.gates or flat) | self.of_options(slopes.options)

    def of_units(self, slopes: GateGradients) -> dict[int, NDArray[np.float64]]:
        """Sum, for each level of each site, the slopes of units that it restores or prunes."""
        tables = self.space.tables
        kept = tables.units(self.configurations)
        cumulative = [np.concatenate([[0.0], np.cumsum(slope)]) for slope in slopes]  # first units
        changes = {}
        for position, site in enumerate(self.space.sites):
            levels = np.tile(self.genome, (len(site.levels), 1))
            levels[:, position] = np.arange(len(site.levels))
            units = tables.units(self.space.configurations(levels))
            changes[position] = np.zeros(len(levels))
            for target in site.targets:
                of_target = cumulative[target]
                changes[position] += of_target[units[:, target]] - of_target[kept[target]]
        return changes

    def asked(self) -> Mapping[int, Sequence[int]]:
        """Return for each component that has number formats the configurations to ask about."""
        asked: dict[int, set[int]] = {}
        for _, target, by_level in self._in_formats():
            asked.setdefault(target, set()).update(by_level)
        dense = [table.dense for table in self.space.tables]
        return {target: sorted(found - {dense[target]}) for target, found in asked.items()}

    def of_options(self, options: OptionSensitivities) -> dict[int, NDArray[np.float64]]:
        """Sum, for each level of each site of formats, what it does beyond the present one.

        At full width a format does as much more as there are more inputs to be rounded.
        """
        changes: dict[int, NDArray[np.float64]] = {}
        for position, target, by_level in self._in_formats():
            units, table = int(self.configurations[target]), self.space.tables[target]
            share = table.units[units] / table.unit_count
            rises = np.array([options.get((target, choice), 0.0) for choice in by_level])
            change = share * (rises - rises[self.genome[position]])
            changes[position] = changes.get(position, 0.0) + change
        return changes

    def _in_formats(self) -> Iterator[tuple[int, int, Sequence[int]]]:
        """Yield each site of formats, each of its targets, and the configurations by level."""
        for position, site in enumerate(self.space.sites):
            if site.dimension in FORMAT_DIMENSIONS:
                for target, by_level in site.configurations_by_target.items():
                    yield position, target, by_level
