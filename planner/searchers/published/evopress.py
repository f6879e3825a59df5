"""EvoPress: evolution of one plan at an exact budget, judged on ever larger samples of text."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.searchers.problem.domain import Domain
from planner.searchers.problem.genomes import are_new, as_genome, draw_new
from planner.searchers.problem.moves import site_kinds
from planner.searchers.protocol import Answer, Ask, Genomes, Text
from search_spaces.space.space import Genome

OFFSPRING = 32
INITIAL = 64
_MOST_SWITCHES = 3
_ATTEMPTS = 20


@dataclass(frozen=True)
class Stage:
    """One step of a selection."""

    tokens: int
    """Of a fresh sample of the text."""
    survivors: int


INITIAL_STAGE = Stage(512, 1)
STAGES = (Stage(512, 2), Stage(2048, 1))
"""The published steps (2,048 and 32,768 tokens for 7-billion models), scaled to small ones."""


class EvoPress:
    """A (1 + λ) evolution by level switches that keep the cost exact.

    Each generation's offspring are scored on a small sample of the text, the best few again on a
    larger one, next to their parent; every sample is drawn anew. Whenever the parent changes it
    is scored on all text, to be shown; that is not counted.

    As published, but for the text that samples are drawn from, which are this run's windows, and
    sites of several levels, of which one steps down and one of the same kind steps up.

    Args:
        domain: Levels and costs; the largest even plan within its budget sets the exact cost.
        seed: Of all chance.
        text: What samples are drawn from.

    References:
        Sieberling, Kuznedelev, Kurtic & Alistarh, 2024, "EvoPress: Towards Optimal Dynamic Model
        Compression via Evolutionary Search" (algorithm 1; settings of its depth pruning).
    """

    def __init__(self, domain: Domain, seed: int, text: Text) -> None:
        self._domain = domain
        self._rng = np.random.default_rng(seed)
        self._text = text
        self._kinds = site_kinds(domain)
        self._start = domain.even_within()
        self._parent: NDArray[np.int_] | None = None
        self._shown_parents = set[Genome]()
        self._candidates = self._initial()
        self._stages = [INITIAL_STAGE]

    def ask(self) -> Ask:
        if self._parent is not None and as_genome(self._parent) not in self._shown_parents:
            return Ask(genomes=self._parent[None], racing=False, counted=False)
        count = min(self._text.windows, max(1, self._stages[0].tokens // self._text.tokens))
        windows = self._rng.choice(self._text.windows, size=count, replace=False)
        return Ask(genomes=self._candidates, windows=tuple(int(window) for window in windows))

    def tell(self, ask: Ask, answer: Answer) -> None:
        if not ask.windows:
            self._shown_parents.add(as_genome(ask.genomes[0]))
            return
        stage, *later = self._stages
        best = np.argsort(answer.objectives[:, 0], kind="stable")[: stage.survivors]
        survivors = ask.genomes[best]
        if later:
            self._candidates, self._stages = survivors, later
            if len(later) == 1 and self._parent is not None:  # elitism: it competes again
                self._candidates = _distinct(np.concatenate([survivors, self._parent[None]]))
            return
        self._parent = survivors[0]
        self._candidates, self._stages = self._offspring(self._parent), list(STAGES)

    def _initial(self) -> Genomes:
        """Return random plans of the same cost where all sites are kept or dropped as a whole.

        Otherwise the even plan alone. As published: drops start at random, levels start alike.
        """
        if self._domain.top_levels.max() > 1:
            return self._start[None]
        switches = 2 * len(self._domain.top_levels)
        return _distinct(np.array([self._switched(self._start, switches) for _ in range(INITIAL)]))

    def _offspring(self, parent: NDArray[np.int_]) -> Genomes:
        """Return distinct mutants of a parent."""

        def mutant() -> NDArray[np.int_]:
            # the smaller of two draws, so that few switches are likelier
            switches = int(self._rng.integers(1, _MOST_SWITCHES + 1, size=2).min())
            return self._switched(parent, switches)

        return draw_new(mutant, OFFSPRING, {as_genome(parent)}, attempts=_ATTEMPTS)

    def _switched(self, genome: NDArray[np.int_], switches: int) -> NDArray[np.int_]:
        """Lower one site and raise another of its kind by a level, some times over.

        A switch that would pass the budget is skipped.
        """
        levels = genome.copy()
        top = self._domain.top_levels
        for _ in range(switches):
            kind = self._kinds == self._rng.integers(self._kinds.max() + 1)
            lowerable = np.flatnonzero(kind & (levels > 0))
            raisable = np.flatnonzero(kind & (levels < top))
            if len(lowerable) and len(raisable):
                switched = levels.copy()
                switched[self._rng.choice(lowerable)] -= 1
                switched[self._rng.choice(raisable)] += 1
                # steps of one kind may still differ in cost: sparsity saves less of a narrow site
                if self._domain.affords(switched[None])[0]:
                    levels = switched
        return levels


def _distinct(genomes: Genomes) -> Genomes:
    return np.asarray(genomes[are_new(genomes)])
