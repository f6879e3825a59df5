"""Scoring genomes: forms for the evaluator, costs, and the plan's identity."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.gate_gradients import PASSES, Slopes
from evaluators.scoring.score import Score
from planner.preparation.prepared_model import PreparedModel
from planner.runs.records import Evaluation, Reply
from search_spaces.space.configuration import unit_counts, units_in
from search_spaces.space.space import Site


class Scorer:
    """Scores genomes of one workbench's space on one set of windows, a rung at a time.

    Args:
        prepared: Model, space and costs.
        evaluator: On the windows.
    """

    def __init__(self, prepared: PreparedModel, evaluator: Evaluator) -> None:
        self._bench = prepared
        self._evaluator = evaluator
        self.rungs = evaluator.rungs

    def score(
        self, genomes: NDArray[np.int_], rung: int | None = None
    ) -> Iterator[tuple[int, Evaluation]]:
        """Score genomes ``(genomes, sites)``; each is given as it lands, with its position.

        Args:
            genomes: What to score.
            rung: On the windows of this rung only; none: on all.
        """
        configurations = self._configurations(genomes)
        yield from self._evaluations(
            genomes, configurations, self._evaluator.score(configurations, rung)
        )

    def sample(
        self, genomes: NDArray[np.int_], windows: Sequence[int]
    ) -> Iterator[tuple[int, Evaluation]]:
        """Score genomes ``(genomes, sites)`` on some windows only; yields as `score` does."""
        configurations = self._configurations(genomes)
        yield from self._evaluations(
            genomes, configurations, self._evaluator.sample(configurations, windows)
        )

    def slopes(self, genomes: NDArray[np.int_]) -> Iterator[tuple[int, Reply]]:
        """Tell the change of KL that a step from a genome to each level promises.

        Args:
            genomes: ``(genomes, sites)``

        Yields:
            Position of the genome, and the changes level by level, site by site.
        """
        tokens = PASSES * self._evaluator.rungs[0] * self._bench.calibration.search.shape[1]
        configurations = self._configurations(genomes)
        started = time.monotonic()
        for index, slopes in self._evaluator.slopes(configurations):
            values = [
                self._steps(site, configurations[index], slopes)
                for site in self._bench.space.sites
            ]
            seconds = time.monotonic() - started
            yield index, Reply(values=np.concatenate(values), tokens=tokens, seconds=seconds)
            started = time.monotonic()

    def _evaluations(
        self,
        genomes: NDArray[np.int_],
        configurations: NDArray[np.int_],
        scores: Iterator[tuple[int, Score]],
    ) -> Iterator[tuple[int, Evaluation]]:
        repaired = self._bench.space.repaired(genomes)
        costs = self._bench.dense.costs.costs(configurations)
        for index, score in scores:
            yield (
                index,
                Evaluation(
                    genome=tuple(genomes[index].tolist()),
                    plan_id=self._bench.space.plan(repaired[index]).plan_id,
                    round=0,
                    score=score,
                    costs={name: float(values[index]) for name, values in costs.items()},
                ),
            )

    def expect(self, parents: NDArray[np.int_]) -> None:
        """Prepare for children of these genomes ``(parents, sites)``."""
        self._evaluator.expect(self._configurations(parents))

    def _configurations(self, genomes: NDArray[np.int_]) -> NDArray[np.int_]:
        return self._bench.space.configurations(self._bench.space.repaired(genomes))

    def _steps(
        self, site: Site, configurations: NDArray[np.int_], slopes: Slopes
    ) -> NDArray[np.float64]:
        """Add up, for each level of a site, the slopes of units that it keeps more or less."""
        widths = unit_counts(self._bench.space.components)
        promised = np.zeros(len(site.levels))
        for target, levels in site.configurations_by_target.items():
            worth = np.concatenate([[0.0], np.cumsum(slopes[target])])  # of the first units
            kept = units_in(np.array(levels), widths[target])
            promised += worth[kept] - worth[units_in(configurations, widths)[target]]
        return promised
