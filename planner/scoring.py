"""Scoring genomes: counts for the evaluator, costs, and the plan's identity."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evaluators.evaluator import Evaluator
from planner.evaluation import Evaluation
from planner.workbench import Workbench


class Scorer:
    """Scores genomes of one workbench's space on one set of windows, a rung at a time.

    Args:
        bench: Model, space and costs.
        evaluator: On the windows.
    """

    def __init__(self, bench: Workbench, evaluator: Evaluator) -> None:
        self._bench = bench
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
        mended = self._bench.space.mended(genomes)
        counts = self._bench.space.counts(mended)
        costs = self._bench.dense.costs.costs(counts)
        for index, score in self._evaluator.score(counts, rung):
            yield (
                index,
                Evaluation(
                    genome=tuple(genomes[index].tolist()),
                    plan_id=self._bench.space.plan(mended[index]).plan_id,
                    round=0,
                    score=score,
                    costs={name: float(values[index]) for name, values in costs.items()},
                ),
            )

    def expect(self, parents: NDArray[np.int_]) -> None:
        """Prepare for children of these genomes ``(parents, sites)``."""
        self._evaluator.expect(self._counts(parents))

    def price(self, genomes: NDArray[np.int_]) -> NDArray[np.float64]:
        """Tell what scoring each genome would cost now, as a share of the dense model's pass."""
        return self._evaluator.price(self._counts(genomes))

    def _counts(self, genomes: NDArray[np.int_]) -> NDArray[np.int_]:
        return self._bench.space.counts(self._bench.space.mended(genomes))
