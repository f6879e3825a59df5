"""Searchers that follow a fixed script: written as a generator, asked and told in steps."""

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from planner.searchers.problem.genomes import are_new, as_genome
from planner.searchers.protocol import Answer, Ask, Floats, Genomes

if TYPE_CHECKING:
    from search_spaces.space.space import Genome

Script = Generator[Genomes, Floats, None]
"""Yields the genomes to score next, ``(genomes, sites)``, is sent their KL, ``(genomes,)``, and
ends when it has nothing left to ask."""


class ScriptedSearcher:
    """Asks for what a script yields, and remembers every score.

    All genomes that are compared are scored alike, on all text and without a race, as the
    published methods do. A genome that was scored is not asked again.

    Args:
        script: What to ask, in turn.
        sites: How many sites a genome has.
    """

    def __init__(self, script: Script, sites: int) -> None:
        self._script = script
        self._sites = sites
        self._kls: dict[Genome, float] = {}
        self._request = next(script, None)

    def ask(self) -> Ask:
        while self._request is not None:
            new = self._request[are_new(self._request, self._kls)]
            if len(new):
                return Ask(genomes=new, racing=False)
            self._resume(self._request)
        return Ask(genomes=np.empty((0, self._sites), dtype=np.int_))

    def tell(self, ask: Ask, answer: Answer) -> None:
        kls = answer.objectives[:, 0].tolist()
        self._kls.update(zip(map(as_genome, ask.genomes), kls, strict=True))
        if self._request is not None:
            self._resume(self._request)

    def _resume(self, genomes: Genomes) -> None:
        """Send the script the KL of its genomes, and keep what it asks next."""
        kls = np.array([self._kls[as_genome(genome)] for genome in genomes])
        try:
            self._request = self._script.send(kls)
        except StopIteration:
            self._request = None
