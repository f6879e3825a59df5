"""What searchers ask of the toy search, and how good it is."""

import json

import moocore
import numpy as np
from numpy.typing import NDArray

from planner.searchers import SearcherName
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.genomes import as_genome
from planner.searchers.protocol import Ask
from search_spaces.space.space import Genome
from tests.problems.toy_search import RacingScorer, answer, domain, kl, made, points


def asked(
    name: SearcherName, seed: int, count: int, space: Domain | None = None, most: int = 40
) -> list[Ask]:
    """Ask and tell until so many genomes were asked, or nothing is, or for so many rounds."""
    space = space or domain()
    searcher = made(name, space, 16, seed)
    asks: list[Ask] = []
    while len(asks) < most and sum(len(ask.genomes) for ask in asks) < count:
        ask = searcher.ask()
        asks.append(ask)
        if not len(ask.genomes):
            break
        searcher.tell(ask, answer(ask, space))
    return asks


def scored(asks: list[Ask]) -> NDArray[np.int_]:
    """The genomes that were scored on all text, ``(genomes, sites)``."""
    return np.concatenate([ask.genomes for ask in asks if is_whole(ask)])


def is_whole(ask: Ask) -> bool:
    to_the_end = ask.rungs is None or ask.rungs >= len(RacingScorer.rungs)
    return to_the_end and not ask.windows and not ask.gradients


def as_json(asks: list[Ask]) -> str:
    """Whatever was asked, to compare."""
    fields = [
        (a.genomes.tolist(), a.rungs, a.racing, list(a.windows), a.gradients, a.counted)
        for a in asks
    ]
    return json.dumps(fields)


def hypervolume(genomes: NDArray[np.int_], space: Domain | None = None) -> float:
    objectives = points(genomes, space)
    reference = [2.5] + [1.0] * (objectives.shape[1] - 1)
    return float(moocore.hypervolume(objectives, ref=reference))


def best_within(genomes: NDArray[np.int_], space: Domain) -> float:
    """The lowest KL that the budget allows."""
    return float(kl(genomes[space.affords(genomes)]).min(initial=np.inf))


def repeats(asks: list[Ask]) -> set[Genome]:
    """The genomes that count and are scored on all text though they were before."""
    seen, twice = set[Genome](), set[Genome]()
    for ask in filter(is_whole, asks):
        genomes = [as_genome(row) for row in ask.genomes]
        if ask.counted:
            twice |= seen & set(genomes)
            twice |= {genome for genome in genomes if genomes.count(genome) > 1}
        seen |= set(genomes)
    return twice
