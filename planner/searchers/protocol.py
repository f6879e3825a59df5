"""What the search loop and a searcher exchange."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Genomes = NDArray[np.int_]
"""One level for each site, ``(genomes, sites)``."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Text:
    """How much text a search scores on, for searchers that choose from it."""

    rungs: tuple[int, ...]
    """Windows scored after each rung, ascending."""
    tokens: int
    """In each window."""
    gradients: bool = True
    """Whether gradients can be asked: not where a model is read from disk layer by layer."""

    @property
    def windows(self) -> int:
        """All windows."""
        return self.rungs[-1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ask:
    """What a searcher asks next."""

    genomes: Genomes
    """``(genomes, sites)``; none: it has nothing left to ask."""
    rungs: int | None = None
    """Rungs of text that they are scored on at most; none: all."""
    racing: bool = True
    """Whether genomes that are surely worse may be dropped on the way up the rungs."""
    risk: float | None = None
    """Chance, in each comparison, that a genome is dropped for one no better; none: the run's."""
    windows: tuple[int, ...] = ()
    """Score on these windows of the text instead, for this answer only: no plan is recorded."""
    gradients: bool = False
    """Answer with what gradients at each genome say of its neighbours, instead of its score."""
    counted: bool = True
    """Whether it is part of the search: what is scored only to be shown counts for no limit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """The scores of the genomes that were asked, or the gradients at them."""

    objectives: Floats
    """``(genomes, 1 + costs)``, minimised, finite: KL, then costs as shares of the dense model's.
    KL is projected to all windows from those that the genome was scored on; on windows that the
    searcher chose, it is the mean over these."""
    seen: Floats
    """The share of the text that each was scored on, ``(genomes,)``."""
    gradients: tuple[Floats, ...] = ()
    """Where gradients were asked, and objectives are none: for each genome the estimated change
    of KL by a step to each level, level by level, site by site, ``(levels of all sites,)``. To
    first order for what is pruned, to second order for number formats and other options."""


class Searcher(Protocol):
    """Proposes genomes and learns from their scores."""

    def ask(self) -> Ask:
        """Return what to score next, which was not asked before."""
        ...

    def tell(self, ask: Ask, answer: Answer) -> None:
        """Learn from the answer to the last ask."""
        ...
