"""AutoQuantize: number formats weighed by one backward pass, then the exact best plan."""

from collections.abc import Generator

import numpy as np

from planner.searchers.problem.additive import additive_best
from planner.searchers.problem.descent import spread_limits
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.genomes import are_new
from planner.searchers.problem.single_sites import site_sensitivities
from planner.searchers.protocol import Answer, Ask, Text

_MOST_LEVELS = 4


class AutoQuantize:
    """Takes the plan within each budget whose sensitivities to formats have the least sum.

    As in ModelOpt: each format's effect on the output of a component is weighed by gradients of
    one backward pass, effects are assumed to add up, and an integer program picks one format for
    each component. Different here: gradients are of tokens drawn from the model's own predictions,
    which gives KL to the dense model to second order; formats are of components and not of single
    matrices; and the solution is scored jointly, which shows what adding up was worth. Where sites
    choose something else than a format, or the model is too large for gradients, they are scored
    alone, as `Knapsack` does. With a front in focus it is solved for many budgets, evenly spread.

    Args:
        domain: Sites, levels and costs.
        population: How many budgets, where not only one matters.
        text: What plans are scored on.

    References:
        NVIDIA, 2024, Model Optimizer, ``auto_quantize``; Sinha & Zoltners, 1979, "The
        Multiple-Choice Knapsack Problem".
    """

    def __init__(self, domain: Domain, population: int, text: Text) -> None:
        self._script = _script(domain, population, text)
        self._next = next(self._script)

    def ask(self) -> Ask:
        return self._next

    def tell(self, ask: Ask, answer: Answer) -> None:  # noqa: ARG002  (the script knows it)
        self._next = self._script.send(answer)


def _script(domain: Domain, population: int, text: Text) -> Generator[Ask, Answer, None]:
    sensitivities = yield from site_sensitivities(domain, text, _MOST_LEVELS)
    budgets = spread_limits(domain, population)
    plans = np.array([additive_best(domain, sensitivities, limits) for limits in budgets])
    yield Ask(genomes=plans[are_new(plans)], racing=False)
    while True:
        yield Ask(genomes=plans[:0])
