"""All that was scored so far, and what of it the front leans on."""

import numpy as np
from numpy.typing import NDArray

from planner.searchers.frontier.expected_improvement import Budgets
from planner.searchers.frontier.surrogate import LEAST_KL
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.moves import as_genome, worth_a_look
from planner.searchers.protocol import Answer, Floats, Genomes
from search_spaces.space.space import Genome


class History:
    """Every genome's latest KL, and the share of the text that it was measured on.

    Args:
        domain: Sites, costs and budgets of interest.
    """

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._scored: dict[Genome, tuple[float, float]] = {}
        self._centres: set[Genome] = set()

    def __len__(self) -> int:
        return len(self._scored)

    def add(self, genomes: Genomes, answer: Answer) -> None:
        """Take in what became of genomes ``(genomes, sites)``."""
        kls = answer.objectives[:, 0]
        for genome, kl, seen in zip(genomes, kls, answer.seen, strict=True):
            self._scored[as_genome(genome)] = float(kl), float(seen)

    def scores(self) -> tuple[Genomes, Floats, Floats]:
        """Give genomes ``(genomes, sites)``, their KL and their shares of the text."""
        told = np.array(list(self._scored.values()))
        return np.array(list(self._scored), dtype=np.int_), told[:, 0], told[:, 1]

    def kl(self, genome: Genome) -> float:
        """Give the KL of a genome that was scored."""
        return self._scored[genome][0]

    def budgets(self, share: float) -> Budgets:
        """Give the budgets of interest, with the best answers among plans that came so far.

        Args:
            share: Of the text, at least.
        """
        budgets = Budgets.of(self._domain)
        genomes, log_kls, _ = self._measured(share)
        budgets.answer(self._domain.prices(genomes), log_kls)
        return budgets

    def leaders(self, share: float) -> Genomes:
        """Give the best answers to budgets that did not come to all of the text.

        Args:
            share: Of the text, that they came to at least.
        """
        genomes, _, seen = self._measured(share)
        leading = self._serves(self.budgets(share), share) > 0
        return np.asarray(genomes[leading & (seen < 1.0)])

    def centre(self, budgets: Budgets, share: float) -> NDArray[np.int_] | None:
        """Give the plan that is the best answer to most budgets, and was not given before.

        Args:
            budgets: With their answers.
            share: Of the text, that the plan came to at least.

        Returns:
            ``(sites,)``; none where all of the front was.
        """
        genomes, _, _ = self._measured(share)
        serves = self._serves(budgets, share)
        for position in np.argsort(-serves, kind="stable"):
            genome = as_genome(genomes[position])
            if serves[position] and genome not in self._centres:
                self._centres.add(genome)
                return np.asarray(genomes[position])
        return None

    def nearest_front(self, count: int) -> NDArray[np.int_]:
        """Give positions in `scores` of plans whose KL is nearest to the best one's no dearer.

        Args:
            count: How many at most.
        """
        genomes, kls, _ = self.scores()
        prices = self._domain.prices(genomes)
        if self._domain.only_budget:  # all that the budget allows is equally cheap
            limits = self._domain.allowed
            prices = np.maximum(prices, np.where(np.isfinite(limits), limits, 0.0))
        no_dearer = (prices[None] <= prices[:, None]).all(axis=2)
        best = np.where(no_dearer, kls, np.inf).min(axis=1)
        return np.argsort(kls / np.maximum(best, LEAST_KL), kind="stable")[:count]

    def wanted(self, genomes: Genomes) -> Genomes:
        """Give the distinct genomes that were not scored yet and are worth it."""
        fresh = dict.fromkeys(map(as_genome, genomes[self.are_wanted(genomes)]))
        return np.array(list(fresh), dtype=np.int_).reshape(-1, len(self._domain.top_levels))

    def are_wanted(self, genomes: Genomes) -> NDArray[np.bool_]:
        """Tell which genomes were not scored yet and are worth it, ``(genomes,)``."""
        new = np.array([as_genome(row) not in self._scored for row in genomes], dtype=bool)
        return new & worth_a_look(genomes, self._domain)

    def _serves(self, budgets: Budgets, share: float) -> NDArray[np.int_]:
        """Count the budgets that each plan is the best answer to, ``(measured plans,)``."""
        genomes, log_kls, _ = self._measured(share)
        admitted = budgets.admit(self._domain.prices(genomes))
        return np.asarray((admitted & (log_kls[:, None] <= budgets.best)).sum(axis=1))

    def _measured(self, share: float) -> tuple[Genomes, Floats, Floats]:
        """Give the plans but for the dense one that came to a share of the text, as `scores`.

        Where none did, those that came farthest. KL as its logarithm.
        """
        genomes, kls, seen = self.scores()
        measured = (seen >= min(share, seen.max())) & (kls > LEAST_KL)
        return genomes[measured], np.log(kls[measured]), seen[measured]
