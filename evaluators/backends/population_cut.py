"""Cutting a population into parts that can be scored apart, along its prefix tree."""

import heapq
import itertools
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluators.backends.seconds import Seconds
from evaluators.backends.work import Floats, Work
from evaluators.costs.macs import products_table
from evaluators.scoring.prefix_tree import Members, PrefixTree
from evaluators.scoring.steps import Step
from search_spaces.space.configuration import Configurations
from search_spaces.space.sorted_model import SortedModel
from search_spaces.surgery.layer_builder import LayerBuilder

PARTS_EACH = 4
"""Parts for each worker at most: few enough to share prefixes, enough to be shared out evenly."""
_SLACK = 1.01
"""By how much the time may exceed the least there is for more and smaller parts."""


@dataclass(frozen=True, kw_only=True)
class PopulationCut:
    """Parts of a population, the dearest first."""

    parts: tuple[Members, ...]
    """Positions of candidates, each in one part, in the order of the tree."""
    works: tuple[Work, ...]
    """Of the candidates of each part."""
    amounts: tuple[Floats, ...]
    """Of each kind of work in each part, ``(kinds,)``."""
    whole_work: float
    """Of the population in one part."""

    @property
    def work(self) -> tuple[float, ...]:
        """Of each part."""
        return tuple(work.total for work in self.works)

    def time(self, workers: int) -> float:
        """Return the work of the busiest worker, if each takes the next part when it is free."""
        return _busiest(self.work, workers)

    def speed_up(self, workers: int) -> float:
        """Return how much sooner so many workers are done than one that scores all together."""
        return self.whole_work / self.time(workers) if self.parts else 1.0


class PopulationCutter:
    """Cuts populations of one model so that some workers are done with them soonest.

    Candidates in the order of the tree, depth first, share a prefix with their neighbours. A part
    is a stretch of this order, and runs the prefix of its first candidate anew.

    Args:
        steps: Of the tree, with components in the order in which they run.
        work: For each component its multiply–accumulates a token in each configuration,
            ``(configurations,)``, in the same order.
        reading: Those of reading a candidate out.
        parts_each: Parts for each worker at most.

    Example:
        Four candidates of two steps, in two pairs that share the first one.

        >>> steps = [Step(0, 0, 1), Step(0, 1, 2)]
        >>> cutter = PopulationCutter(steps, [np.array([3.0, 3.0]), np.array([1.0, 1.0])], 0.0)
        >>> cut = cutter.cut(np.array([[0, 0], [1, 0], [0, 1], [1, 1]]), workers=2)
        >>> [part.tolist() for part in cut.parts], cut.work, cut.whole_work
        ([[0, 2], [1, 3]], (5.0, 5.0), 10.0)
    """

    def __init__(
        self,
        steps: Sequence[Step],
        work: Sequence[Floats],
        reading: float,
        parts_each: int = PARTS_EACH,
    ) -> None:
        self._starts = np.array([step.start for step in steps])
        self._stops = np.array([step.stop for step in steps])
        self._work = work
        self._reading = reading
        self._parts_each = parts_each
        self.seconds = Seconds()
        """What parts are known to take."""

    @classmethod
    def of(
        cls, sorted_model: SortedModel, layer_builder: LayerBuilder, tokens: int
    ) -> tuple["PopulationCutter", list[int]]:
        """Return the cutter of a model on windows of some tokens, and the order of components."""
        tree = PrefixTree(sorted_model, layer_builder)
        macs = products_table(sorted_model.structure, layer_builder.block_options, tokens)
        work = [macs.tables[position] for position in tree.running_order]
        # each part of a streamed model reads all of it from disk
        parts_each = 1 if sorted_model.structure.backbone.streamed else PARTS_EACH
        return cls(tree.running_steps, work, macs.rest, parts_each), tree.running_order

    def cut(self, configurations: Configurations, workers: int) -> PopulationCut:
        """Cut a population into parts.

        Args:
            configurations: ``(candidates, components)``, components as they run.
            workers: That share the parts.
        """
        order = np.lexsort(configurations.T[::-1])
        alone, beyond = self._amounts(configurations[order])
        rates = self.seconds.rates
        work = Work(alone=alone @ rates, beyond=beyond @ rates)
        ends = _chosen_ends(work, workers, self._parts_each)
        stretches = [range(*stretch) for stretch in itertools.pairwise(ends)]
        works = [work.of(stretch) for stretch in stretches]
        amounts = [alone[s.start] + beyond[s.start + 1 : s.stop].sum(axis=0) for s in stretches]
        by_work = sorted(range(len(works)), key=lambda part: -works[part].total)
        return PopulationCut(
            parts=tuple(order[stretches[part]] for part in by_work),
            works=tuple(works[part] for part in by_work),
            amounts=tuple(amounts[part] for part in by_work),
            whole_work=work.total,
        )

    def _amounts(self, ordered: Configurations) -> tuple[Floats, Floats]:
        """Return of each kind of work that of each candidate alone, and beyond the one before."""
        by_component = np.column_stack(
            [table[column] for table, column in zip(self._work, ordered.T, strict=True)]
        )
        same = np.cumprod(ordered[1:] == ordered[:-1], axis=1).astype(bool)
        shared = same[:, self._stops - 1].sum(axis=1)  # steps
        starts = np.append(self._starts, self._stops[-1])[shared]
        rows = np.arange(1, len(ordered))
        both = []
        # what lies before the first step is an embedding, which takes no products and is no run
        runs = np.where(np.arange(ordered.shape[1]) < self._starts[0], 0, ordered > 0)
        for of_component in (by_component, runs):
            totals = np.cumsum(of_component, axis=1, dtype=float)
            saved = np.where(starts > 0, totals[rows, starts - 1], 0.0)
            both.append((totals[:, -1], np.append(totals[:1, -1], totals[1:, -1] - saved)))
        reading = np.full(len(ordered), self._reading)
        (products, own_products), (counts, own_counts) = both
        return (
            np.column_stack([products, counts, reading]),
            np.column_stack([own_products, own_counts, reading]),
        )


def _chosen_ends(work: Work, workers: int, parts_each: int) -> list[int]:
    """Return where the stretches begin that workers are done with soonest, and the end."""
    count = len(work.alone)
    sums = np.append(0.0, np.cumsum(work.beyond))

    def totals(ends: Sequence[int]) -> Floats:
        first, last = np.array(ends[:-1], dtype=np.int_), np.array(ends[1:], dtype=np.int_)
        return np.asarray(work.alone[first] + sums[last] - sums[first + 1])

    ends = sorted({0, count})
    cuts = [tuple(ends)]
    waiting = [(-work.total, 0, count)]  # the dearest stretch is cut next
    while waiting and len(ends) <= parts_each * workers:
        _, start, stop = heapq.heappop(waiting)
        if place := work.of(range(start, stop)).best_cut():
            insort(ends, start + place)
            cuts.append(tuple(ends))
            for half in ((start, start + place), (start + place, stop)):
                heapq.heappush(waiting, (-float(totals(half)[0]), *half))
    times = [_busiest(totals(cut).tolist(), workers) for cut in cuts]
    most = _SLACK * min(times)
    return list(next(c for c, t in zip(cuts[::-1], times[::-1], strict=True) if t <= most))


def _busiest(work: Sequence[float], workers: int) -> float:
    """Return the work of the busiest worker; parts are taken in order, the dearest first."""
    loads = [0.0] * workers
    for of_part in sorted(work, reverse=True):
        heapq.heapreplace(loads, loads[0] + of_part)
    return max(loads)
