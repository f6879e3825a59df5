"""Bonsai: random sub-models, and a regression of their KL on the parts that they keep."""

import numpy as np

from planner.searchers.problem.descent import ROUNDING, Descent
from planner.searchers.problem.domain import Domain, step_rates
from planner.searchers.problem.scripted import Script, ScriptedSearcher
from planner.searchers.protocol import Floats, Genomes

_ITERATIONS = 8
_STRENGTHS = np.logspace(-6, 2, 25)
"""Ridge penalties to choose from, as shares of the largest squared singular value."""
# so that nothing is divided by 0
_TINY = 1e-30


class Bonsai(ScriptedSearcher):
    """Prunes a part at a time by a regression of KL on what random sub-models keep.

    As published: forward passes only; each iteration draws sub-models at its own target around a
    prior, scores them, regresses the loss on what they keep, removes what matters least and
    starts again from there; only what some sub-model lacked may be removed. Different here: the
    regression is over the kept share of each site, not over single heads and channels, of which
    the prior gives the order and the relative worth; worth is weighed by what it costs; the
    penalty is chosen by generalised cross-validation; and KL to the dense model takes the place
    of the language model's loss. The prior is the domain's, from activation energies as in Wanda;
    where there is none, all that costs the same is worth the same.

    Args:
        domain: Sites, levels and costs.
        population: Sub-models an iteration.
        seed: Of the sub-models.
        iterations: Equal parts of the descent to the target; after each the plan is scored.

    References:
        Dery, Kolawole, Kagy, Smith, Neubig & Talwalkar, 2024, "Everybody Prune Now: Structured
        Pruning of LLMs with only Forward Passes"; Golub, Heath & Wahba, 1979,
        doi:10.1080/00401706.1979.10489751 (generalised cross-validation).
    """

    def __init__(
        self, domain: Domain, population: int, seed: int, *, iterations: int = _ITERATIONS
    ) -> None:
        self._descent = Descent.to_end(domain)
        self._population = population
        self._rng = np.random.default_rng(seed)
        sensitivities = domain.sensitivity_tables or [
            -t for t in self._descent.tables(domain.top_levels)
        ]
        self._prior = [-np.diff(table) for table in sensitivities]
        goals = 1.0 - np.arange(1, iterations + 1) / iterations
        super().__init__(self._prune(goals), len(domain.top_levels))

    def _prune(self, goals: Floats) -> Script:
        """Prune down to each remaining distance in turn."""
        plan = self._descent.domain.top_levels
        for goal in goals.tolist():
            if self._descent.remaining(plan[None])[0] <= goal + ROUNDING:
                continue
            draws = [self._draw(plan, goal) for _ in range(self._population)]
            samples = np.array([plan, *draws])
            kls = yield samples
            effects = np.maximum(-ridge(samples / np.maximum(plan, 1), kls), 0.0)
            worths = [
                effect * step_shares(prior, level)
                for effect, prior, level in zip(effects, self._prior, plan, strict=True)
            ]
            # the regression says nothing of what no sample lacked
            plan = self._pruned(plan, worths, goal, samples.min(axis=0))
        yield plan[None]

    def _draw(self, plan: Genomes, goal: float) -> Genomes:
        """Draw a sub-model, ``(sites,)``, which lacks a site the likelier the less it is worth."""
        # Gumbel noise on log worth makes its order a draw without replacement by worth
        noise = self._rng.gumbel(size=len(plan))
        worths = [prior * np.exp(-draw) for prior, draw in zip(self._prior, noise, strict=True)]
        return self._pruned(plan, worths, goal, np.zeros_like(plan))

    def _pruned(
        self, plan: Genomes, worths: list[Floats], goal: float, lowest: Genomes
    ) -> Genomes:
        """Prune from a plan what is worth least for what it saves, until the goal is reached.

        Args:
            plan: ``(sites,)``.
            worths: For each site ``(levels - 1,)``, what each step down is worth.
            goal: The distance that may remain.
            lowest: Levels that no site is pruned below, ``(sites,)``.
        """
        rates: list[Floats] = []
        ties: list[Floats] = []
        sites: list[Genomes] = []
        for site, table in enumerate(self._descent.tables(plan)):
            inside = slice(lowest[site], plan[site])
            saved = np.diff(table)[inside][::-1]
            for values, worth in ((rates, worths[site]), (ties, self._prior[site])):
                values.append(step_rates(worth[inside][::-1], saved))
            sites.append(np.full(len(saved), site))
        order = np.lexsort((np.concatenate(ties), np.concatenate(rates)))
        steps = np.zeros((len(order) + 1, len(plan)), dtype=np.int_)
        steps[np.arange(1, len(order) + 1), np.concatenate(sites)[order]] = 1
        reached = plan - np.cumsum(steps, axis=0)
        enough = np.flatnonzero(self._descent.remaining(reached) <= goal + ROUNDING)
        return np.asarray(reached[enough[0] if len(enough) else -1])


def step_shares(prior: Floats, level: int) -> Floats:
    """Divide what a site keeps at a level among its steps as the prior does, ``(levels - 1,)``."""
    weights = prior if prior[:level].sum() > 0 else np.ones(len(prior))
    return np.asarray(weights / max(weights[:level].sum(), _TINY))


def ridge(features: Floats, values: Floats) -> Floats:
    """Fit a linear model with an intercept and a penalty on its coefficients.

    Args:
        features: ``(rows, features)``.
        values: ``(rows,)``.

    Returns:
        Coefficients, ``(features,)``, of the penalty with the least generalised cross-validation
        error; 0 for what does not vary.
    """
    centred, target = features - features.mean(axis=0), values - values.mean()
    left, singular, right = np.linalg.svd(centred, full_matrices=False)
    if singular[0] <= _TINY:
        return np.zeros(features.shape[1])
    projected = left.T @ target
    best, coefficients = np.inf, np.zeros(features.shape[1])
    for strength in _STRENGTHS * singular[0] ** 2:
        shrinkage = singular**2 / (singular**2 + strength)
        squared_error = ((target - left @ (shrinkage * projected)) ** 2).sum()
        # degrees of freedom: the trace of the hat matrix, and the intercept
        error = squared_error / (len(values) - 1 - shrinkage.sum()) ** 2
        if error < best:
            best = error
            coefficients = right.T @ (singular / (singular**2 + strength) * projected)
    return np.asarray(coefficients)
