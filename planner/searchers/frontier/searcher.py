"""`frontier`: seeds, a surrogate, expected gain, gradient-guided moves, races, and again."""

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from planner.searchers.frontier.expected_improvement import Budgets, pick
from planner.searchers.frontier.gradient_moves import neighbours, never_raised, promises
from planner.searchers.frontier.history import History
from planner.searchers.frontier.inner_search import evolve
from planner.searchers.frontier.surrogate import MOST_FITTED, Surrogate
from planner.searchers.frontier.surrogate_check import SurrogateCheck
from planner.searchers.problem.additive import additive_best
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.moves import as_genome
from planner.searchers.problem.single_sites import sensitivity_tables, single_sites
from planner.searchers.protocol import Answer, Ask, Floats, Genomes, Text

_LEVELS_EACH = 4
_WAYPOINTS = 4
_PRIOR_BUDGETS = 4
"""Budgets for which the guess alone has its plan scored."""
_ROUNDS_EACH = 5
"""Rounds in which a population's worth of plans is proposed."""
_NEAREST = 48
"""Plans that an evolution on the surrogate begins with."""
_RISK = 0.2
"""In a race: high, for what is dropped still teaches the surrogate."""
_STANDSTILL = 0.005
"""Mean log KL over budgets: where rounds gain less, the next ones look closer."""
_GUIDED_SPREAD = 0.15
"""Standard deviation of what a gradient promises, in log KL."""

Script = Generator[Ask, Answer, None]
Pool = tuple[Genomes, Floats, Floats]
"""Genomes ``(genomes, sites)``, the log KL expected of each, and its standard deviation."""


class Frontier:
    """Searches jointly, from additive and greedy beginnings, and learns from every evaluation.

    Seeds are the single-site pass, uniform plans, the best of the additive model at many
    budgets, the best by the domain's guess at a few, and a greedy trajectory from dense down,
    re-planned at each waypoint by the gradient.
    Then in rounds: fit the surrogate to all scores, evolve a population on it, take gradients at
    a plan that the front leans on and move from there, pick what promises most, race it. New plans
    come to a part of the text first; what leads after some rounds is scored on all of it, and
    where nothing is gained any more the part grows.

    Args:
        domain: Levels, costs, and which budgets are of interest.
        population: Plans proposed in five rounds.
        seed: Of all chance.
        text: What plans are scored on.

    References:
        Surrogate-assisted evolution: Jin, 2011; expected gain with believed picks: Ginsbourger,
        Le Riche & Carraro, 2010 ("kriging believer").
    """

    def __init__(self, domain: Domain, population: int, seed: int, text: Text) -> None:
        self._domain = domain
        self._batch = max(4, population // _ROUNDS_EACH)
        self._rng = np.random.default_rng(seed)
        self._text = text
        self._rungs = (len(text.rungs) + 1) // 2
        self._history = History(domain)
        self._check = SurrogateCheck()
        self._harms: tuple[Floats, ...] = ()
        self._script = self._search()
        self._next = next(self._script)

    def ask(self) -> Ask:
        return self._next

    def tell(self, ask: Ask, answer: Answer) -> None:
        if not ask.slopes:
            self._history.add(ask.genomes, answer)
        self._next = self._script.send(answer)

    def _search(self) -> Script:
        # where there is a guess, it has the shape inside of a site, and dropping it whole the size
        singles = single_sites(
            self._domain, 1 if self._domain.sensitivity_tables else _LEVELS_EACH
        )
        answer = yield Ask(genomes=singles, rungs=1, racing=False)
        self._harms = sensitivity_tables(self._domain, singles, answer.objectives[:, 0])
        surrogate = Surrogate(self._domain, self._harms)
        yield from self._score(self._history.wanted(self._seeds()), self._rungs)
        if self._text.slopes:
            yield from self._trajectory()
        while True:
            before, known = self._history.budgets(self._share).best.mean(), len(self._history)
            # not raced: among equals, a race would drop the same ones again and again
            leaders = self._history.leaders(self._share)
            yield from self._score(leaders, len(self._text.rungs), racing=False)
            for _ in range(_ROUNDS_EACH):
                yield from self._round(surrogate)
            if self._history.budgets(self._share).best.mean() > before - _STANDSTILL:
                self._rungs = min(self._rungs + 1, len(self._text.rungs))
            if len(self._history) == known and not len(leaders):
                yield self._nothing

    @property
    def _nothing(self) -> Ask:
        return Ask(genomes=np.empty((0, len(self._domain.top_levels)), dtype=np.int_))

    @property
    def _share(self) -> float:
        """The share of the text that new plans come to at most."""
        return self._text.rungs[self._rungs - 1] / self._text.windows

    def _score(self, genomes: Genomes, rungs: int, *, racing: bool = True) -> Script:
        if len(genomes):
            yield Ask(genomes=genomes, rungs=rungs, racing=racing, risk=_RISK)

    def _seeds(self) -> Genomes:
        """Uniform plans, and the best additive ones, at budgets of interest."""
        domain = self._domain
        if domain.only_budget:
            return np.array(
                [domain.uniform_within(), self._budgeted(self._harms), *self._guessed()]
            )
        shares = np.linspace(domain.cost_floor, 1.0, self._batch, endpoint=False)
        uniform = [domain.uniform(float(share)) for share in shares]
        planned = [self._planned(self._harms, share) for share in shares]
        return np.array([*uniform, *planned, *self._guessed()])

    def _guessed(self) -> list[NDArray[np.int_]]:
        """The best plans by the domain's guess, so that the search ends no worse than these."""
        domain = self._domain
        if not domain.sensitivity_tables:
            return []
        at_budget = self._budgeted(domain.sensitivity_tables)  # the dense plan where there is none
        if domain.only_budget:
            return [at_budget]
        shares = np.linspace(domain.cost_floor, 1.0, _PRIOR_BUDGETS, endpoint=False)
        return [at_budget, *(self._planned(domain.sensitivity_tables, share) for share in shares)]

    def _budgeted(self, sensitivities: tuple[Floats, ...]) -> NDArray[np.int_]:
        """Give the best additive plan within the budget."""
        return additive_best(
            self._domain, sensitivities, [cost.limit for cost in self._domain.costs]
        )

    def _planned(self, sensitivities: tuple[Floats, ...], share: float) -> NDArray[np.int_]:
        """Give the best additive plan at a share of the first cost, or within the budget."""
        if self._domain.only_budget and share <= self._domain.cost_ceiling:
            return self._budgeted(sensitivities)
        return additive_best(
            self._domain, sensitivities, [share, *[None] * (len(self._domain.costs) - 1)]
        )

    def _trajectory(self) -> Script:
        """From dense down to the lowest cost of interest, re-planned at each waypoint."""
        domain = self._domain
        end = domain.cost_ceiling if domain.only_budget else domain.cost_floor
        genome, waypoints = domain.top_levels, []
        for share in np.linspace(1.0, end, _WAYPOINTS + 1)[1:]:
            answer = yield Ask(genomes=genome[None], slopes=True)
            if not np.isfinite(answer.slopes[0]).all():
                break
            promised = promises(domain, genome, answer.slopes[0], self._harms)
            genome = self._planned(never_raised(promised, genome), float(share))
            waypoints.append(genome)
        if waypoints:
            wanted = np.array(waypoints[-1:] if domain.only_budget else waypoints)
            yield from self._score(self._history.wanted(wanted), self._rungs)

    def _round(self, surrogate: Surrogate) -> Script:
        genomes, kls, seen = self._history.scores()
        near = self._history.nearest_front(MOST_FITTED)
        surrogate.fit(genomes[near], kls[near], seen[near])
        budgets = self._history.budgets(self._share)
        pools = [self._evolved(surrogate)]
        centre = self._history.centre(budgets, self._share) if self._text.slopes else None
        if centre is not None:
            answer = yield Ask(genomes=centre[None], slopes=True)
            if np.isfinite(answer.slopes[0]).all():
                pools.append(self._guided(centre, answer.slopes[0]))
        batch = self._history.wanted(np.concatenate(self._picked(budgets, pools)))
        if len(batch):
            expected, additive = surrogate.predict(batch), surrogate.additive(batch)
            answer = yield Ask(genomes=batch, rungs=self._rungs, risk=_RISK)
            self._check.observe(expected, additive, answer.objectives[:, 0])

    def _picked(self, budgets: Budgets, pools: list[Pool]) -> list[Genomes]:
        """Give each pool's share of the batch: what of it promises most."""
        count = -(-self._batch // len(pools))
        return [
            pool[pick(count, budgets, self._domain.prices(pool), means, spreads)]
            for pool, means, spreads in pools
        ]

    def _evolved(self, surrogate: Surrogate) -> Pool:
        """Evolve what the surrogate expects most of; the additive one where it ranks no worse."""
        expect = surrogate.predict if self._check.learned else surrogate.trend
        genomes, _, _ = self._history.scores()
        start = genomes[self._history.nearest_front(_NEAREST)]
        found = evolve(self._domain, expect, start, self._rng)
        found = self._history.wanted(found)
        return found, expect(found), surrogate.spread(found)

    def _guided(self, centre: NDArray[np.int_], slopes: Floats) -> Pool:
        """Give the neighbours of a plan, with what its gradient promises of them."""
        promised = promises(self._domain, centre, slopes, self._harms)
        genomes, changes = neighbours(self._domain, centre, promised)
        kl = self._history.kl(as_genome(centre))
        new = self._history.are_wanted(genomes)
        # a gradient that promises nearly all of KL back promises too much
        means = np.log(np.maximum(kl + changes[new], kl / 4))
        return genomes[new], means, np.full(len(means), _GUIDED_SPREAD)
