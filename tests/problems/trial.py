"""One searcher on one toy model: what it has found after how many evaluations."""

from dataclasses import dataclass
from math import inf

import numpy as np

from planner.searchers import SearcherName, make_searcher
from planner.searchers.problem.additive import additive_best
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.genomes import as_genome
from planner.searchers.problem.single_sites import sensitivity_tables, single_sites
from planner.searchers.protocol import Ask, Genomes, Text
from search_spaces.space.space import Genome
from tests.problems.model import ToyModel

GRADIENT_COST = 3
"""Evaluations that gradients at a genome count as: a pass forward and one back."""
POPULATION = 32
TEXT = Text(rungs=(4, 8, 16), tokens=128)
_IDLE_ASKS = 20
_ENOUGH = 1 - 1e-9


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How a search went: the share of the true hypervolume after each answer."""

    evaluations: tuple[float, ...]
    """Spent by then, ascending."""
    shares: tuple[float, ...]

    def share_at(self, evaluations: float) -> float:
        """What was found within some evaluations; answers that go beyond them do not count."""
        return max(
            (
                share
                for n, share in zip(self.evaluations, self.shares, strict=True)
                if n <= evaluations
            ),
            default=0.0,
        )

    def needed(self, share: float) -> float:
        """Evaluations until a share was found; infinite where it never was."""
        return min(
            (n for n, found in zip(self.evaluations, self.shares, strict=True) if found >= share),
            default=inf,
        )


class Account:
    """What was asked of a toy model, in evaluations on all of its text."""

    def __init__(self) -> None:
        self.spent = 0.0
        self._seen: dict[Genome, float] = {}

    def charge(self, ask: Ask, share: float) -> None:
        """Count an ask; what a genome was scored on before is kept, as the loop keeps it.

        Args:
            ask: The ask.
            share: Of the text that it was answered on.
        """
        for row in ask.genomes:
            genome = as_genome(row)
            if ask.gradients:
                self.spent += GRADIENT_COST
            elif ask.windows:
                self.spent += share
            else:
                before = self._seen.get(genome, 0.0)
                self._seen[genome] = max(before, share)
                self.spent += self._seen[genome] - before

    @property
    def complete(self) -> list[Genome]:
        """Genomes that were scored on all of the text: only these can stand on a front."""
        return [genome for genome, share in self._seen.items() if share == 1.0]


def try_searcher(
    name: SearcherName, toy: ToyModel, seed: int, most: float, domain: Domain | None = None
) -> Trial:
    """Let a searcher look at a toy model until it has spent its evaluations or found all.

    Args:
        name: Of the searcher.
        toy: The problem.
        seed: Of the searcher.
        most: Evaluations to spend.
        domain: What the searcher knows of the problem; none: all of it.
    """
    searcher = make_searcher(
        name, domain or toy.domain(), population=POPULATION, seed=seed, text=TEXT
    )
    account, idle = Account(), 0
    evaluations, shares = [0.0], [0.0]
    while account.spent < most and shares[-1] < _ENOUGH and idle < _IDLE_ASKS:
        ask = searcher.ask()
        idle = 0 if len(ask.genomes) else idle + 1
        if idle:
            continue
        answer = toy.answer(ask)
        account.charge(ask, float(answer.seen[0]) if len(answer.seen) else 0.0)
        searcher.tell(ask, answer)
        found = account.complete
        evaluations.append(account.spent)
        shares.append(toy.hypervolume(np.array(found)) if found else 0.0)
    return Trial(evaluations=tuple(evaluations), shares=tuple(shares))


def additive_plans(toy: ToyModel, count: int = 40) -> Genomes:
    """Return the exact best plans at many limits on the first cost, if single-site KLs added up.

    Returns:
        ``(count, sites)``.
    """
    domain = toy.domain()
    single = single_sites(domain, most_levels=int(toy.top_levels.max()))
    sensitivities = sensitivity_tables(domain, single, toy.kl(single))
    others: list[float | None] = [None] * (len(toy.costs) - 1)
    limits = np.linspace(domain.cost_floor, 1.0, count)
    return np.array(
        [additive_best(domain, sensitivities, [float(limit), *others]) for limit in limits]
    )
