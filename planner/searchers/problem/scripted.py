"""Searchers that follow a fixed course: written in one piece, asked and told in steps."""

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from planner.searchers.problem.moves import as_genome
from planner.searchers.protocol import Answer, Ask, Floats, Genomes

if TYPE_CHECKING:
    from search_spaces.space.space import Genome

Script = Generator[Genomes, Floats, None]
"""Yields the genomes that it wants to know next, ``(genomes, sites)``, is sent their KL,
``(genomes,)``, and ends when it has nothing left to ask."""


class ScriptedSearcher:
    """Asks what a course wants to know, and remembers what it was told.

    All that are compared are scored alike, on all text and without a race, as the published
    methods do. A genome that is known already is not asked again.

    Args:
        script: What to ask, in turn.
        sites: How many sites a genome has.
    """

    def __init__(self, script: Script, sites: int) -> None:
        self._script = script
        self._sites = sites
        self._known: dict[Genome, float] = {}
        self._wanted = next(script, None)

    def ask(self) -> Ask:
        while self._wanted is not None:
            genomes = dict.fromkeys(map(as_genome, self._wanted))
            new = [genome for genome in genomes if genome not in self._known]
            if new:
                return Ask(genomes=np.array(new, dtype=np.int_), racing=False)
            self._go_on(self._wanted)
        return Ask(genomes=np.empty((0, self._sites), dtype=np.int_))

    def tell(self, ask: Ask, answer: Answer) -> None:
        kls = answer.objectives[:, 0].tolist()
        self._known.update(zip(map(as_genome, ask.genomes), kls, strict=True))
        if self._wanted is not None:
            self._go_on(self._wanted)

    def _go_on(self, wanted: Genomes) -> None:
        kls = np.array([self._known[as_genome(genome)] for genome in wanted])
        try:
            self._wanted = self._script.send(kls)
        except StopIteration:
            self._wanted = None
