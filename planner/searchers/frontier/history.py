"""All scores so far, and which plans the front depends on."""

import numpy as np
from numpy.typing import NDArray

from planner.searchers.frontier.expected_improvement import Budgets
from planner.searchers.frontier.surrogate import LEAST_KL
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.genomes import are_new, as_genome, of_interest
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
        """Record the scores of genomes ``(genomes, sites)``."""
        kls = answer.objectives[:, 0]
        for genome, kl, seen in zip(genomes, kls, answer.seen, strict=True):
            self._scored[as_genome(genome)] = float(kl), float(seen)

    def scores(self) -> tuple[Genomes, Floats, Floats]:
        """Return genomes ``(genomes, sites)``, their KL and their shares of the text."""
        kls_and_shares = np.array(list(self._scored.values()))
        genomes = np.array(list(self._scored), dtype=np.int_)
        return genomes, kls_and_shares[:, 0], kls_and_shares[:, 1]

    def kl(self, genome: Genome) -> float:
        """Return the KL of a genome that was scored."""
        return self._scored[genome][0]

    def budgets(self, share: float) -> Budgets:
        """Return the budgets of interest, with the best answers among plans that were scored.

        Args:
            share: Of the text that a plan was scored on, at least.
        """
        budgets = Budgets.of(self._domain)
        genomes, log_kls, _ = self._measured(share)
        budgets.update(self._domain.all_costs(genomes), log_kls)
        return budgets

    def leaders(self, share: float) -> Genomes:
        """Return the best answers to budgets that were not scored on all of the text.

        Args:
            share: Of the text that they were scored on, at least.
        """
        genomes, _, seen = self._measured(share)
        leading = self._answer_counts(self.budgets(share), share) > 0
        return np.asarray(genomes[leading & (seen < 1.0)])

    def centre(self, budgets: Budgets, share: float) -> NDArray[np.int_] | None:
        """Return the plan that is the best answer to most budgets, and was not returned before.

        Args:
            budgets: With their answers.
            share: Of the text that the plan was scored on, at least.

        Returns:
            ``(sites,)``; none where all of the front was returned.
        """
        genomes, _, _ = self._measured(share)
        counts = self._answer_counts(budgets, share)
        for position in np.argsort(-counts, kind="stable"):
            genome = as_genome(genomes[position])
            if counts[position] and genome not in self._centres:
                self._centres.add(genome)
                return np.asarray(genomes[position])
        return None

    def nearest_front(self, count: int) -> NDArray[np.int_]:
        """Return positions in `scores` of the plans whose KL is nearest to the front's.

        A plan's KL is compared with the best one's among plans that cost no more.

        Args:
            count: How many at most.
        """
        genomes, kls, _ = self.scores()
        costs = self._domain.all_costs(genomes)
        if self._domain.only_budget:  # all that the budget allows is equally cheap
            limits = self._domain.allowed
            costs = np.maximum(costs, np.where(np.isfinite(limits), limits, 0.0))
        no_dearer = (costs[None] <= costs[:, None]).all(axis=2)
        best = np.where(no_dearer, kls, np.inf).min(axis=1)
        return np.argsort(kls / np.maximum(best, LEAST_KL), kind="stable")[:count]

    def candidates(self, genomes: Genomes) -> Genomes:
        """Return the distinct genomes that were not scored yet and are of interest."""
        eligible = np.asarray(genomes[self.are_candidates(genomes)])
        return np.asarray(eligible[are_new(eligible)])

    def are_candidates(self, genomes: Genomes) -> NDArray[np.bool_]:
        """Return which genomes were not scored yet and are of interest, ``(genomes,)``."""
        unscored = np.array([as_genome(row) not in self._scored for row in genomes], dtype=bool)
        return unscored & of_interest(genomes, self._domain)

    def _answer_counts(self, budgets: Budgets, share: float) -> NDArray[np.int_]:
        """Count the budgets that each plan is the best answer to, ``(measured plans,)``."""
        genomes, log_kls, _ = self._measured(share)
        admitted = budgets.admit(self._domain.all_costs(genomes))
        return np.asarray((admitted & (log_kls[:, None] <= budgets.best)).sum(axis=1))

    def _measured(self, share: float) -> tuple[Genomes, Floats, Floats]:
        """Return the plans but the dense one that were scored on a share of the text, as `scores`.

        Where none were, those that were scored on most. KL as its logarithm.
        """
        genomes, kls, seen = self.scores()
        measured = (seen >= min(share, seen.max())) & (kls > LEAST_KL)
        return genomes[measured], np.log(kls[measured]), seen[measured]
