"""A search space without a model: KL is a formula, and all genomes can be enumerated."""

from dataclasses import dataclass, replace
from functools import cached_property

import moocore
import numpy as np
from numpy.typing import NDArray

from planner.searchers.problem.cost import Cost
from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Answer, Ask, Floats, Genomes

_LOOK_BELOW = 0.25
_LOOK_JUST_BELOW = 0.05
_ROUNDING = 1e-12
RUNGS = (0.25, 0.5, 1.0)
"""Shares of the text that a rung comes to."""
WINDOWS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class ToyModel:
    """KL = Σ sensitivity · lost^power + Σ over pairs of sites of interaction · lost · lost.

    ``lost`` is the share of a site that a genome does not keep. KL is 0 for the dense genome,
    never negative, and a genome that keeps no less of any site has no higher one.
    """

    top_levels: NDArray[np.int_]
    """``(sites,)``."""
    sensitivity: Floats
    """KL with all of a site lost and all else dense, ``(sites,)``."""
    power: Floats
    """How suddenly a site's KL rises, at least 1, ``(sites,)``."""
    interactions: Floats
    """``(sites, sites)``, above the diagonal; negative where a site matters less once another
    is lost."""
    costs: tuple[Cost, ...]
    cheapest: float = 0.0
    """Least share of the first cost that is of interest."""
    noise: float = 0.0
    """Relative standard error of KL where one window of the text was seen."""

    def lost(self, genomes: Genomes) -> Floats:
        """Share of each site that genomes do not keep, ``(genomes, sites)``."""
        return np.asarray(1.0 - genomes / self.top_levels)

    def kl(self, genomes: Genomes) -> Floats:
        """``(genomes,)`` of ``(genomes, sites)``."""
        lost = self.lost(genomes)
        alone = lost**self.power @ self.sensitivity
        return np.asarray(alone + ((lost @ self.interactions) * lost).sum(axis=-1))

    def gradients(self, genome: NDArray[np.int_]) -> Floats:
        """First-order change of KL with each level, level by level, site by site.

        As a gradient gives it: the derivative at the genome times the step, so it is off for long
        steps, and 0 at the dense genome for sites whose KL rises suddenly.
        """
        lost = self.lost(genome)
        gradient = self.sensitivity * self.power * lost ** (self.power - 1)
        gradient += (self.interactions + self.interactions.T) @ lost
        steps = [1 - np.arange(top + 1) / top - lost[s] for s, top in enumerate(self.top_levels)]
        return np.concatenate([slope * step for slope, step in zip(gradient, steps, strict=True)])

    def objectives(self, genomes: Genomes) -> Floats:
        """``(genomes, 1 + costs)``: what a search minimises."""
        return np.column_stack([self.kl(genomes), *(cost.of(genomes) for cost in self.costs)])

    def answer(self, ask: Ask) -> Answer:
        """Answer a searcher as the loop would, without dropping anything on the way."""
        if ask.gradients:
            gradients = tuple(self.gradients(genome) for genome in ask.genomes)
            return Answer(objectives=np.empty((0, 0)), seen=np.empty(0), gradients=gradients)
        share = 1.0 if ask.rungs is None else RUNGS[min(ask.rungs, len(RUNGS)) - 1]
        share = len(ask.windows) / WINDOWS if ask.windows else share
        objectives = self.objectives(ask.genomes)
        if self.noise:
            objectives[:, 0] *= self._difficulty(ask.genomes, share)
        return Answer(objectives=objectives, seen=np.full(len(ask.genomes), share))

    def _difficulty(self, genomes: Genomes, share: float) -> Floats:
        """How much harder the windows seen are for each genome than all are, ``(genomes,)``.

        Windows that are harder for all are answered as if they were not, as the loop projects
        them; what is left differs from genome to genome, and shrinks to none as all text is seen.
        """
        spread = self.noise * ((1 / share - 1) / WINDOWS) ** 0.5
        draws = [np.random.default_rng(genome).normal() for genome in genomes]
        return np.asarray(np.exp(spread * np.array(draws) - spread**2 / 2))

    def domain(self, limit: float | None = None, *, only_budget: bool = False) -> Domain:
        """Return the domain of a searcher, with a limit on the first cost as a run sets it."""
        first, *others = self.costs
        first = replace(first, limit=limit)
        floor = max(self.smallest, self.cheapest)
        if limit is not None:
            below = _LOOK_JUST_BELOW if only_budget else _LOOK_BELOW
            floor = max(floor, limit - below * (1.0 - limit))
        return Domain(
            top_levels=self.top_levels,
            costs=(first, *others),
            cost_floor=floor,
            only_budget=only_budget,
        )

    @property
    def smallest(self) -> float:
        """Least share of the first cost."""
        return float(self.costs[0].of(np.zeros_like(self.top_levels)))

    @property
    def size(self) -> int:
        """Genomes of the whole space: the evaluations that enumeration takes."""
        return int(np.prod(self.top_levels + 1))

    def all_genomes(self) -> Genomes:
        """Enumerate the space, ``(genomes, sites)``."""
        sizes = tuple(int(top) + 1 for top in self.top_levels)
        return np.indices(sizes, dtype=np.int_).reshape(len(sizes), -1).T

    @cached_property
    def _front(self) -> Genomes:
        everything = self.all_genomes()
        objectives = self.objectives(everything)
        best: Genomes = everything[moocore.is_nondominated(objectives)]
        return best[np.argsort(-self.costs[0].of(best), kind="stable")]

    def front(self) -> Genomes:
        """The exact Pareto front, dearest first, ``(genomes, sites)``."""
        return self._front

    @cached_property
    def reference(self) -> tuple[float, ...]:
        """Where hypervolumes are measured from: least KL of the cheapest plans, and dense costs.

        So what is cheaper than of interest and of higher KL adds nothing, and the easily had
        volume of plans that no one would want does not hide what is missed of the others.
        """
        front = self.front()
        cheap = self.costs[0].of(front) <= max(self.smallest, self.cheapest) + _ROUNDING
        return (float(self.kl(front[cheap]).min()), *[1.0] * len(self.costs))

    def hypervolume(self, genomes: Genomes) -> float:
        """What genomes dominate, as a share of what the exact front does."""
        return self._volume(genomes) / self._best_volume

    @cached_property
    def _best_volume(self) -> float:
        return self._volume(self.front())

    def _volume(self, genomes: Genomes) -> float:
        return float(moocore.hypervolume(self.objectives(genomes), ref=self.reference))
