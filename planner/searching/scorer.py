"""Scoring genomes with a prepared model: configurations, quality, costs, and plan identity."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.gate_gradients import PASSES, GateGradients
from evaluators.scoring.score import Score
from planner.preparation.prepared_model import PreparedModel
from planner.runs.records import Evaluation, RoundReply


class Scorer:
    """Scores genomes of a prepared model's space on one set of windows, a rung at a time.

    Args:
        prepared: Model, space and costs.
        evaluator: On the windows.
    """

    def __init__(self, prepared: PreparedModel, evaluator: Evaluator) -> None:
        self._prepared = prepared
        self._evaluator = evaluator
        self.rungs = evaluator.rungs

    def score(
        self, genomes: NDArray[np.int_], rung: int | None = None
    ) -> Iterator[tuple[int, Evaluation]]:
        """Score genomes ``(genomes, sites)``; see `GenomeScorer`."""
        configurations = self._configurations(genomes)
        yield from self._evaluations(
            genomes, configurations, self._evaluator.score(configurations, rung)
        )

    def sample(
        self, genomes: NDArray[np.int_], windows: Sequence[int]
    ) -> Iterator[tuple[int, Evaluation]]:
        """Score genomes ``(genomes, sites)`` on some windows only; see `GenomeScorer`."""
        configurations = self._configurations(genomes)
        yield from self._evaluations(
            genomes, configurations, self._evaluator.sample(configurations, windows)
        )

    def gradients(self, genomes: NDArray[np.int_]) -> Iterator[tuple[int, RoundReply]]:
        """Estimate the change of KL by each step; see `GenomeScorer`.

        The estimates are gradients of gates on the units.
        """
        tokens = PASSES * self._evaluator.rungs[0] * self._prepared.calibration.search.shape[1]
        configurations = self._configurations(genomes)
        started = time.monotonic()
        for index, slopes in self._evaluator.gate_gradients(configurations):
            values = self._steps(genomes[index], slopes)
            seconds = time.monotonic() - started
            yield index, RoundReply(values=np.concatenate(values), tokens=tokens, seconds=seconds)
            started = time.monotonic()

    def _evaluations(
        self,
        genomes: NDArray[np.int_],
        configurations: NDArray[np.int_],
        scores: Iterator[tuple[int, Score]],
    ) -> Iterator[tuple[int, Evaluation]]:
        repaired = self._prepared.space.repaired(genomes)
        costs = self._prepared.dense.costs.costs(configurations)
        for index, score in scores:
            yield (
                index,
                Evaluation(
                    genome=tuple(genomes[index].tolist()),
                    plan_id=self._prepared.space.plan(repaired[index]).plan_id,
                    round=0,
                    score=score,
                    costs={name: float(values[index]) for name, values in costs.items()},
                ),
            )

    def expect(self, parents: NDArray[np.int_]) -> None:
        """Prepare for children of these genomes ``(parents, sites)``."""
        self._evaluator.expect(self._configurations(parents))

    def _configurations(self, genomes: NDArray[np.int_]) -> NDArray[np.int_]:
        return self._prepared.space.configurations(self._prepared.space.repaired(genomes))

    def _steps(self, genome: NDArray[np.int_], slopes: GateGradients) -> list[NDArray[np.float64]]:
        """Sum, for each level of each site, the slopes of units that it restores or prunes."""
        space = self._prepared.space
        genome = space.repaired(genome[None])[0]
        kept = space.tables.units(space.configurations(genome[None])[0])
        cumulative = [np.concatenate([[0.0], np.cumsum(slope)]) for slope in slopes]  # first units
        changes = []
        for position, site in enumerate(space.sites):
            levels = np.tile(genome, (len(site.levels), 1))
            levels[:, position] = np.arange(len(site.levels))
            units = space.tables.units(space.configurations(levels))
            change = np.zeros(len(levels))
            for target in site.targets:
                change += cumulative[target][units[:, target]] - cumulative[target][kept[target]]
            changes.append(change)
        return changes
