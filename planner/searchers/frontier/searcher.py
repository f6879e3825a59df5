"""`frontier`: seeds, then rounds of surrogate, expected improvement, gradient moves and races."""

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from planner.searchers.frontier.additive_plans import AdditivePlans
from planner.searchers.frontier.expected_improvement import Budgets, pick
from planner.searchers.frontier.gradient_moves import (
    neighbours,
    predicted_changes,
    without_restoring,
)
from planner.searchers.frontier.history import History
from planner.searchers.frontier.inner_search import evolve
from planner.searchers.frontier.surrogate import MOST_FITTED, Surrogate
from planner.searchers.frontier.surrogate_check import SurrogateCheck
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.genomes import as_genome
from planner.searchers.problem.single_sites import site_sensitivities
from planner.searchers.protocol import Answer, Ask, Floats, Genomes, Text

_LEVELS_PER_SITE = 4
"""Scored by the single-site pass where there is no prior."""
_WAYPOINTS = 4
_REPLANS = 2
"""Plans for the budget that are made by what the one before them says of number formats."""
_ROUNDS_PER_POPULATION = 5
"""Rounds in which a population's worth of plans is proposed."""
_NEAREST = 48
"""Plans that an evolution on the surrogate begins with."""
_RISK = 0.2
"""In a race: high, for the surrogate is fitted to dropped plans too."""
_STANDSTILL = 0.005
"""Mean log KL over budgets: where rounds improve it by less, the next ones see more text."""
_GRADIENT_SPREAD = 0.15
"""Standard deviation of what a gradient predicts, in log KL."""

Dialogue = Generator[Ask, Answer, None]
"""Yields asks, and is sent their answers."""
Pool = tuple[Genomes, Floats, Floats]
"""Genomes ``(genomes, sites)``, the log KL expected of each, and its standard deviation."""


class Frontier:
    """Searches jointly, from additive and greedy seeds, and learns from every evaluation.

    It begins with a single-site pass, with the `AdditivePlans`, and with a greedy trajectory from
    dense down, re-planned at each waypoint by the gradient.
    Then in rounds: fit the surrogate to all scores, evolve a population on it, take gradients at
    a plan of the front and move from there, pick the candidates of the highest expected
    improvement, race them. New plans are scored on a part of the text first; those that lead after
    some rounds are scored on all of it, and where rounds improve nothing any more the part grows.

    Args:
        domain: Levels, costs, and which budgets are of interest.
        population: Plans proposed in five rounds.
        seed: Of all chance.
        text: What plans are scored on.

    References:
        Jin, 2011 (surrogate-assisted evolution); Ginsbourger, Le Riche & Carraro, 2010 (expected
        improvement of a batch, "kriging believer").
    """

    def __init__(self, domain: Domain, population: int, seed: int, text: Text) -> None:
        self._domain = domain
        self._population = population
        self._batch = max(4, population // _ROUNDS_PER_POPULATION)
        self._rng = np.random.default_rng(seed)
        self._text = text
        self._rungs = (len(text.rungs) + 1) // 2
        self._plans = AdditivePlans(domain)
        self._history = History(domain)
        self._check = SurrogateCheck()
        self._sensitivities: tuple[Floats, ...] = ()
        self._script = self._search()
        self._next = next(self._script)

    def ask(self) -> Ask:
        return self._next

    def tell(self, ask: Ask, answer: Answer) -> None:
        if not ask.gradients:
            self._history.add(ask.genomes, answer)
        self._next = self._script.send(answer)

    def _search(self) -> Dialogue:
        # a prior gives the shape inside a site, and dropping the site the scale
        self._sensitivities = yield from site_sensitivities(
            self._domain,
            self._text,
            1 if self._domain.sensitivity_tables else _LEVELS_PER_SITE,
        )
        surrogate = Surrogate(self._domain, self._sensitivities)
        # what formats do nearly adds up, so that plans by the sum are worth more there
        count = self._population if self._domain.in_formats.any() else self._batch
        seeds = self._plans.seeds(self._sensitivities, count)
        yield from self._score(self._history.candidates(seeds), self._rungs)
        if self._text.gradients:
            yield from self._trajectory()
            yield from self._replanned()
        while True:
            mean_before = self._history.budgets(self._share).best.mean()
            count_before = len(self._history)
            # not raced: among equals, a race would drop the same ones again and again
            leaders = self._history.leaders(self._share)
            yield from self._score(leaders, len(self._text.rungs), racing=False)
            for _ in range(_ROUNDS_PER_POPULATION):
                yield from self._round(surrogate)
            if self._history.budgets(self._share).best.mean() > mean_before - _STANDSTILL:
                self._rungs = min(self._rungs + 1, len(self._text.rungs))
            if len(self._history) == count_before and not len(leaders):
                yield self._empty_ask

    @property
    def _empty_ask(self) -> Ask:
        return Ask(genomes=np.empty((0, len(self._domain.top_levels)), dtype=np.int_))

    @property
    def _share(self) -> float:
        """The share of the text that new plans are scored on, at most."""
        return self._text.rungs[self._rungs - 1] / self._text.windows

    def _score(self, genomes: Genomes, rungs: int, *, racing: bool = True) -> Dialogue:
        if len(genomes):
            yield Ask(genomes=genomes, rungs=rungs, racing=racing, risk=_RISK)

    def _trajectory(self) -> Dialogue:
        """Score a descent from dense to the least cost of interest, re-planned at waypoints."""
        domain = self._domain
        end = domain.cost_ceiling if domain.only_budget else domain.cost_floor
        genome, waypoints = domain.top_levels, []
        for share in np.linspace(1.0, end, _WAYPOINTS + 1)[1:]:
            answer = yield Ask(genomes=genome[None], gradients=True)
            if not np.isfinite(answer.gradients[0]).all():
                break
            predictions = predicted_changes(
                domain, genome, answer.gradients[0], self._sensitivities
            )
            genome = self._plans.at(without_restoring(predictions, genome), float(share))
            waypoints.append(genome)
        if waypoints:
            genomes = np.array(waypoints[-1:] if domain.only_budget else waypoints)
            yield from self._score(self._history.candidates(genomes), self._rungs)

    def _replanned(self) -> Dialogue:
        """Score plans for the budget by what formats do around it, where formats are a choice.

        Inside a model that is compressed already another format matters more, or less, than in
        the dense one; what the best plan so far says of it makes the next plan.
        """
        domain = self._domain
        limits = [cost.limit for cost in domain.costs]
        if not domain.in_formats.any() or all(limit is None for limit in limits):
            return
        genome = self._plans.within_budget(self._sensitivities)
        for _ in range(_REPLANS):
            answer = yield Ask(genomes=genome[None], gradients=True)
            if not np.isfinite(answer.gradients[0]).all():
                return
            predictions = predicted_changes(
                domain, genome, answer.gradients[0], self._sensitivities
            )
            genome = self._plans.within_budget(predictions)
            new = self._history.candidates(genome[None])
            if not len(new):
                return
            yield from self._score(new, self._rungs)

    def _round(self, surrogate: Surrogate) -> Dialogue:
        """Fit, propose by surrogate and by gradient, and score the best of both."""
        genomes, kls, seen = self._history.scores()
        near = self._history.nearest_front(MOST_FITTED)
        surrogate.fit(genomes[near], kls[near], seen[near])
        budgets = self._history.budgets(self._share)
        pools = [self._evolve(surrogate)]
        centre = self._history.centre(budgets, self._share) if self._text.gradients else None
        if centre is not None:
            answer = yield Ask(genomes=centre[None], gradients=True)
            if np.isfinite(answer.gradients[0]).all():
                pools.append(self._move(centre, answer.gradients[0]))
        batch = self._history.candidates(np.concatenate(self._pick(budgets, pools)))
        if len(batch):
            expected, additive = surrogate.predict(batch), surrogate.additive(batch)
            answer = yield Ask(genomes=batch, rungs=self._rungs, risk=_RISK)
            self._check.observe(expected, additive, answer.objectives[:, 0])

    def _pick(self, budgets: Budgets, pools: list[Pool]) -> list[Genomes]:
        """Return each pool's share of the batch, by expected improvement."""
        count = -(-self._batch // len(pools))
        return [
            pool[pick(count, budgets, self._domain.all_costs(pool), means, spreads)]
            for pool, means, spreads in pools
        ]

    def _evolve(self, surrogate: Surrogate) -> Pool:
        """Evolve plans on the surrogate; on the additive trend where that ranks no worse."""
        expect = surrogate.predict if self._check.passed else surrogate.trend
        genomes, _, _ = self._history.scores()
        start = genomes[self._history.nearest_front(_NEAREST)]
        evolved = evolve(self._domain, expect, start, self._rng)
        candidates = self._history.candidates(evolved)
        return candidates, expect(candidates), surrogate.spread(candidates)

    def _move(self, centre: NDArray[np.int_], gradient: Floats) -> Pool:
        """Return the neighbours of a plan, with what its gradient predicts of them."""
        predictions = predicted_changes(self._domain, centre, gradient, self._sensitivities)
        genomes, changes = neighbours(self._domain, centre, predictions)
        kl = self._history.kl(as_genome(centre))
        new = self._history.are_candidates(genomes)
        # a gradient that predicts nearly all of KL back predicts too much
        means = np.log(np.maximum(kl + changes[new], kl / 4))
        return genomes[new], means, np.full(len(means), _GRADIENT_SPREAD)
