"""What the search loop and a searcher say to each other."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Genomes = NDArray[np.int_]
"""One level for each site, ``(genomes, sites)``."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Text:
    """How much text a search scores on, where a searcher picks from it."""

    rungs: tuple[int, ...]
    """Windows scored after each rung, ascending."""
    tokens: int
    """In each window."""
    slopes: bool = True
    """Whether slopes can be asked: not where a model is read from disk layer by layer."""

    @property
    def windows(self) -> int:
        """All windows."""
        return self.rungs[-1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ask:
    """What a searcher wants to know next."""

    genomes: Genomes
    """``(genomes, sites)``; none: it has nothing left to ask."""
    rungs: int | None = None
    """Rungs of text that they are scored on at most; none: all."""
    racing: bool = True
    """Whether what is surely not wanted may be dropped on the way up the rungs."""
    risk: float | None = None
    """Chance, in each comparison, that one is dropped for one no better; none: the run's rule."""
    windows: tuple[int, ...] = ()
    """Score on these windows of the text instead, for this answer only: no plan is recorded."""
    slopes: bool = False
    """Tell the slopes at each genome instead of its score."""
    counted: bool = True
    """Whether it is part of the search: what is scored only to be shown counts for no limit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What became of each genome that was asked."""

    objectives: Floats
    """``(genomes, 1 + costs)``, minimised, finite: KL, then costs as shares of the dense model's.
    KL is what the genome would have on all windows, by what it has on those that it came to; on
    windows that the searcher chose, it is the mean over these."""
    seen: Floats
    """The share of the text that each was scored on, ``(genomes,)``."""
    slopes: tuple[Floats, ...] = ()
    """Where slopes were asked, and objectives are none: of each genome the change of KL that a
    step to each level promises, level by level, site by site, ``(levels of all sites,)``."""


class Searcher(Protocol):
    """Proposes genomes and learns from what becomes of them."""

    def ask(self) -> Ask:
        """What to score next, which was not asked before."""
        ...

    def tell(self, ask: Ask, answer: Answer) -> None:
        """Take in the answer to the last ask."""
        ...
