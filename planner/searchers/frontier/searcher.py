"""`frontier`: seeds, a surrogate, expected gain, gradient-guided moves, races, and again."""

from collections.abc import Callable, Generator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from planner.evaluation import Genome
from planner.searchers.additive import additive_best
from planner.searchers.domain import Domain
from planner.searchers.frontier.gain import Budgets, pick
from planner.searchers.frontier.guides import neighbours, promises
from planner.searchers.frontier.inner import evolve
from planner.searchers.frontier.surrogate import LEAST_KL, Surrogate
from planner.searchers.moves import as_genome
from planner.searchers.protocol import Answer, Ask, Floats, Genomes
from planner.searchers.sensitivity import harm_tables, single_sites

_LEVELS_EACH = 4
_WAYPOINTS = 8
_GUIDED_SPREAD = 0.15
"""Standard deviation that the log KL of a guided move is given."""

_RISK = 0.2
"""In a race: high, for what is dropped still teaches the surrogate."""

Script = Generator[Ask, Answer, None]


class Frontier:
    """Searches jointly, from additive and greedy beginnings, and learns from every evaluation.

    Seeds: the single-site pass; uniform plans; the exact best of the additive model at many
    budgets; and a trajectory from dense down, which re-plans at each waypoint by the gradient.
    Then rounds: fit the surrogate to all scores, evolve a large population on it, take gradients
    at a plan that the front leans on and move from there, pick what promises most, race it.

    Args:
        domain: Levels, costs, and which budgets are of interest.
        population: Plans proposed in four rounds.
        seed: Of all chance.
        say: Told in a sentence what users should know.
    """

    def __init__(
        self,
        domain: Domain,
        population: int,
        seed: int,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._domain = domain
        self._batch = max(4, population // 5)
        self._rng = np.random.default_rng(seed)
        self._say = say
        self._scored: dict[Genome, tuple[float, float]] = {}
        self._differentiated: set[Genome] = set()
        self._script = self._search()
        self._next: Ask | None = next(self._script)

    def ask(self) -> Ask:
        sites = len(self._domain.top_levels)
        return self._next or Ask(genomes=np.empty((0, sites), dtype=np.int_))

    def tell(self, ask: Ask, answer: Answer) -> None:
        if not ask.slopes:
            kls = answer.objectives[:, 0]
            for genome, kl, seen in zip(ask.genomes, kls, answer.seen, strict=True):
                self._scored[as_genome(genome)] = float(kl), float(seen)
        self._next = next(self._script, None) if False else self._send(answer)

    def _send(self, answer: Answer) -> Ask | None:
        try:
            return self._script.send(answer)
        except StopIteration:
            return None

    def _search(self) -> Script:
        singles = single_sites(self._domain, _LEVELS_EACH)
        answer = yield Ask(genomes=singles, rungs=1, racing=False)
        self._harms = harm_tables(self._domain, singles, answer.objectives[:, 0])
        self._surrogate = Surrogate(self._domain, self._harms)
        yield Ask(genomes=self._unseen(self._seeds()), risk=_RISK)
        yield from self._trajectory()
        while True:
            yield from self._round()

    def _seeds(self) -> Genomes:
        """Uniform plans, and the best additive ones, at budgets of interest."""
        domain = self._domain
        if domain.only_budget:
            limits = [[cost.limit for cost in domain.costs]]
            plans = [domain.uniform_within()]
        else:
            shares = np.linspace(domain.cost_floor, 1.0, self._batch, endpoint=False)
            limits = [[float(share)] + [None] * (len(domain.costs) - 1) for share in shares]
            plans = [domain.uniform(float(share)) for share in shares]
        plans += [additive_best(domain, self._harms, limit) for limit in limits]
        return np.array(plans)

    def _trajectory(self) -> Script:
        """From dense down to the lowest cost of interest, re-planned at each waypoint."""
        domain = self._domain
        end = domain.cost_ceiling if domain.only_budget else domain.cost_floor
        genome, shares = domain.top_levels, np.linspace(1.0, end, _WAYPOINTS + 1)[1:]
        waypoints = []
        for share in shares:
            answer = yield Ask(genomes=genome[None], slopes=True)
            promised = promises(domain, genome, answer.slopes[0], self._harms)
            limit = [float(share)] + [None] * (len(domain.costs) - 1)
            if domain.only_budget and share == end:
                limit = [cost.limit for cost in domain.costs]
            genome = additive_best(domain, promised, limit)
            waypoints.append(genome)
        wanted = waypoints[-1:] if domain.only_budget else waypoints
        yield Ask(genomes=self._unseen(np.array(wanted)), risk=_RISK)

    def _round(self) -> Script:
        genomes, kls, seen = self._history()
        self._surrogate.fit(genomes, kls, seen)
        budgets = Budgets.of(self._domain)
        telling = (kls > LEAST_KL) & (seen >= seen.max())
        log_kls = np.log(np.maximum(kls, LEAST_KL))
        budgets.answer(self._domain.prices(genomes[telling]), log_kls[telling])
        pools = []
        centre = self._centre(budgets, genomes[telling], log_kls[telling])
        if centre is not None:
            answer = yield Ask(genomes=centre[None], slopes=True)
            pools.append(self._guided(centre, answer.slopes[0]))
        pools.append(self._evolved(genomes, kls))
        batch = []
        for pool, means, spreads in pools:
            count = self._batch // len(pools)
            chosen = pick(count, budgets, pool, self._domain.prices(pool), means, spreads)
            batch += [pool[position] for position in chosen]
        new = self._unseen(np.array(batch))
        if len(new):
            expected, additive = self._surrogate.predict(new), self._surrogate.additive(new)
            answer = yield Ask(genomes=new, risk=_RISK)
            self._judge(expected, additive, np.log(np.maximum(answer.objectives[:, 0], LEAST_KL)))
        else:
            yield Ask(genomes=new)

    def _centre(
        self, budgets: Budgets, genomes: Genomes, log_kls: Floats
    ) -> NDArray[np.int_] | None:
        """Give a plan of the front that no gradient was taken at, the one for most budgets."""
        prices = self._domain.prices(genomes)
        admits = (prices[:, None] <= budgets.limits[None] + 1e-12).all(axis=2)
        serves = (admits & (log_kls[:, None] <= budgets.best[None])).sum(axis=1)
        for position in np.argsort(-serves, kind="stable"):
            genome = as_genome(genomes[position])
            if serves[position] and genome not in self._differentiated:
                self._differentiated.add(genome)
                return np.asarray(genomes[position])
        return None

    def _guided(self, centre: NDArray[np.int_], slopes: Floats) -> tuple[Genomes, Floats, Floats]:
        """Give the neighbours of a plan with what its gradient promises."""
        promised = promises(self._domain, centre, slopes, self._harms)
        genomes, changes = neighbours(self._domain, centre, promised)
        kl, _ = self._scored[as_genome(centre)]
        fresh = self._is_unseen(genomes)
        means = np.log(np.maximum(kl + changes, kl / 4))[fresh]
        return genomes[fresh], means, np.full(len(means), _GUIDED_SPREAD)

    def _evolved(self, genomes: Genomes, kls: Floats) -> tuple[Genomes, Floats, Floats]:
        start = genomes[np.argsort(kls)[:0]] if False else genomes[-64:]
        best = genomes[_front_order(self._domain, genomes, kls)][:64]
        found = evolve(
            self._domain, self._surrogate.predict, np.concatenate([best, start]), self._rng
        )
        found = found[self._is_unseen(found)]
        return found, self._surrogate.predict(found), self._surrogate.spread(found)

    def _judge(self, expected: Floats, additive: Floats, measured: Floats) -> None:
        pass

    def _history(self) -> tuple[Genomes, Floats, Floats]:
        genomes = np.array(list(self._scored), dtype=np.int_)
        told = np.array(list(self._scored.values()))
        return genomes, told[:, 0], told[:, 1]

    def _unseen(self, genomes: Genomes) -> Genomes:
        distinct = list(dict.fromkeys(map(as_genome, genomes)))
        fresh = [g for g in distinct if g not in self._scored]
        return np.array(fresh, dtype=np.int_).reshape(-1, len(self._domain.top_levels))

    def _is_unseen(self, genomes: Genomes) -> NDArray[np.bool_]:
        return np.array([as_genome(row) not in self._scored for row in genomes], dtype=bool)


def _front_order(domain: Domain, genomes: Genomes, kls: Floats) -> NDArray[np.int_]:
    """Order genomes by how near the front they lie: by their KL beside the best no dearer."""
    prices = domain.prices(genomes)
    no_dearer = (prices[None] <= prices[:, None]).all(axis=2)
    best = np.where(no_dearer, kls[None], np.inf).min(axis=1)
    return np.argsort(kls / np.maximum(best, LEAST_KL), kind="stable")
