"""The best plan within the budget among those that a search has scored in full so far."""

from planner.results.front import rank_within
from planner.runs.records import Evaluation
from planner.searching.problem import Problem
from planner.settings.budget import relative_cost


class BestSoFar:
    """Follows a search, one plan at a time, and tells in words how close it is to its answer.

    Args:
        problem: Says what the budget is.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._best: Evaluation | None = None
        self._nearest: Evaluation | None = None
        self._words = ""

    def add(self, plan: Evaluation) -> None:
        """Take note of a plan that is scored on all windows."""
        if plan.score.failure is not None or not self._problem.budget.limits:
            return
        if self._problem.budget.admits(plan.values, self._problem.dense):
            if self._best is None or self._rank(plan) < self._rank(self._best):
                self._best, self._words = plan, self._of_best(plan)
        elif self._best is None and (
            self._nearest is None or self._excess(plan) < self._excess(self._nearest)
        ):
            self._nearest, self._words = plan, self._of_nearest(plan)

    def __str__(self) -> str:
        return self._words

    def _rank(self, plan: Evaluation) -> tuple[object, ...]:
        return rank_within(plan, self._problem.budget, self._problem.cost_names)

    def _excess(self, plan: Evaluation) -> float:
        return self._problem.budget.excess(plan.values, self._problem.dense)

    def _of_best(self, plan: Evaluation) -> str:
        problem, words = self._problem, f"KL {plan.quality['kl']}"
        if not problem.budget.cost_names:  # the cheapest is the best
            name = problem.cost_names[0]
            share = relative_cost(name, plan.costs[name], problem.dense)
            words = f"{name} {share:.3f}x at {words}"
        return f"{words} within {problem.budget}"

    def _of_nearest(self, plan: Evaluation) -> str:
        problem, values = self._problem, plan.values
        missed = [
            limit
            for limit in problem.budget.limits
            if not limit.admits(values[limit.metric], problem.dense)
        ]
        reached = ", ".join(limit.reached(values[limit.metric], problem.dense) for limit in missed)
        return f"none within {problem.budget} yet: nearest {reached}"
