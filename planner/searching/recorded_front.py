"""The front of a running search: its plans are recorded in whole as they enter it."""

import numpy as np

from planner.runs.records import Evaluation
from planner.runs.run_store import RunStore
from planner.searching.problem import Problem
from search_spaces.space.space import SearchSpace


class RecordedFront:
    """Keeps the points of a front, so that a plan is made for those alone that enter it.

    Args:
        run: Where their plans are recorded.
        space: Makes plans of genomes.
        problem: Says what is minimised.
    """

    def __init__(self, run: RunStore, space: SearchSpace, problem: Problem) -> None:
        self._run = run
        self._space = space
        self._cost_names = problem.cost_names
        self._points = np.empty((0, 1 + len(problem.cost_names)))  # (plans, objectives)

    def add(self, evaluation: Evaluation) -> None:
        """Record the plan of an evaluation on all windows, if no plan so far is as good."""
        if evaluation.score.failure is not None:
            return
        costs = (evaluation.costs[name] for name in self._cost_names)
        point = np.array([evaluation.score.mean("kl"), *costs])
        if (self._points <= point).all(axis=1).any():
            return
        is_left = (self._points < point).any(axis=1)
        self._points = np.vstack([self._points[is_left], point])
        genome = self._space.repaired(np.array([evaluation.genome]))[0]
        self._run.record_plans([self._space.plan(genome)])
