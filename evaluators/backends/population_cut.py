"""Cutting a population into parts that can be scored apart, along its prefix tree."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.costs.macs import products_table
from evaluators.scoring.prefix_tree import Members, PrefixTree, Step
from search_spaces.space.configuration import Configurations
from search_spaces.space.sorted_model import SortedModel
from search_spaces.surgery.layer_builder import LayerBuilder

Floats = NDArray[np.float64]

PARTS_EACH = 4
"""Parts for each worker at most: few enough to share prefixes, enough to be shared out evenly."""
_SLACK = 1.01
"""By how much the time may exceed the least there is for more and smaller parts."""


@dataclass(frozen=True, kw_only=True)
class PopulationCut:
    """Parts of a population, the dearest first."""

    parts: tuple[Members, ...]
    """Positions of candidates, each in one part."""
    work: tuple[float, ...]
    """Of each part."""
    whole_work: float
    """Of the population in one part."""

    def time(self, workers: int) -> float:
        """Return the work of the busiest worker, if each takes the next part when it is free."""
        return _busiest(self.work, workers)

    def speed_up(self, workers: int) -> float:
        """Return how much sooner so many workers are done than one that scores all together."""
        return self.whole_work / self.time(workers) if self.work else 1.0


class PopulationCutter:
    """Cuts populations of one model so that some workers are done with them soonest.

    Candidates in the order of the tree, depth first, share a prefix with their neighbours. A part
    is a stretch of this order, and runs the prefix of its first candidate anew.

    Args:
        steps: Of the tree, with components in the order in which they run.
        work: For each component its multiply–accumulates a token in each configuration,
            ``(configurations,)``, in the same order.
        reading: Those of reading a candidate out.

    Example:
        Four candidates of two steps, in two pairs that share the first one.

        >>> steps = [Step(0, 0, 1), Step(0, 1, 2)]
        >>> cutter = PopulationCutter(steps, [np.array([3.0, 3.0]), np.array([1.0, 1.0])], 0.0)
        >>> cut = cutter.cut(np.array([[0, 0], [1, 0], [0, 1], [1, 1]]), workers=2)
        >>> [part.tolist() for part in cut.parts], cut.work, cut.whole_work
        ([[0, 2], [1, 3]], (5.0, 5.0), 10.0)
    """

    def __init__(self, steps: Sequence[Step], work: Sequence[Floats], reading: float) -> None:
        self._starts = np.array([step.start for step in steps])
        self._stops = np.array([step.stop for step in steps])
        self._work = work
        self._reading = reading

    @classmethod
    def of(
        cls, sorted_model: SortedModel, layer_builder: LayerBuilder, tokens: int
    ) -> tuple["PopulationCutter", list[int]]:
        """Return the cutter of a model on windows of some tokens, and the order of components."""
        tree = PrefixTree(sorted_model, layer_builder)
        macs = products_table(sorted_model.structure, layer_builder.block_options, tokens)
        work = [macs.tables[position] for position in tree.running_order]
        return cls(tree.running_steps, work, macs.rest), tree.running_order

    def cut(self, configurations: Configurations, workers: int) -> PopulationCut:
        """Cut a population into parts.

        Args:
            configurations: ``(candidates, components)``, components as they run.
            workers: That share the parts.
        """
        order = np.lexsort(configurations.T[::-1])
        whole, own = self._work_of(configurations[order])
        ends = sorted({0, len(order)})
        cuts = [ends]
        while len(ends) <= PARTS_EACH * workers and (place := _best_place(ends, whole, own)):
            ends = sorted([*ends, place])
            cuts.append(ends)
        times = [_busiest(_of_parts(cut, whole, own), workers) for cut in cuts]
        least = min(times)
        chosen = next(
            cut
            for cut, time in zip(reversed(cuts), reversed(times), strict=True)
            if time <= _SLACK * least
        )
        work = _of_parts(chosen, whole, own)
        by_work = sorted(range(len(work)), key=lambda part: -work[part])
        return PopulationCut(
            parts=tuple(order[chosen[part] : chosen[part + 1]] for part in by_work),
            work=tuple(work[part] for part in by_work),
            whole_work=sum(_of_parts(cuts[0], whole, own)),
        )

    def _work_of(self, ordered: Configurations) -> tuple[Floats, Floats]:
        """Return the work of each candidate alone, and that beyond the one before it."""
        by_component = np.column_stack(
            [table[column] for table, column in zip(self._work, ordered.T, strict=True)]
        )
        totals = np.cumsum(by_component, axis=1)
        same = np.cumprod(ordered[1:] == ordered[:-1], axis=1).astype(bool)
        shared = same[:, self._stops - 1].sum(axis=1)  # steps
        starts = np.append(self._starts, self._stops[-1])[shared]
        # what lies before the first step is an embedding, which takes no products
        rows = np.arange(1, len(ordered))
        saved = np.where(starts > 0, totals[rows, starts - 1], 0.0)
        whole = totals[:, -1] + self._reading
        return whole, np.append(whole[:1], whole[1:] - saved)


def _of_parts(ends: Sequence[int], whole: Floats, own: Floats) -> list[float]:
    """Return the work of the stretches between ends."""
    return [
        float(whole[start] + own[start + 1 : stop].sum())
        for start, stop in itertools.pairwise(ends)
    ]


def _best_place(ends: Sequence[int], whole: Floats, own: Floats) -> int:
    """Return where to cut the dearest stretch that can be cut; 0: none can."""
    work = _of_parts(ends, whole, own)
    stretches = zip(work, ends[:-1], ends[1:], strict=True)
    _, start, stop = max(((w, a, b) for w, a, b in stretches if b - a > 1), default=(0.0, 0, 1))
    if stop - start < 2:
        return 0
    sums = np.cumsum(own[start:stop])
    left = whole[start] - own[start] + sums[:-1]
    right = whole[start + 1 : stop] + (sums[-1] - sums[1:])
    return start + 1 + int(np.argmin(np.maximum(left, right)))


def _busiest(work: Sequence[float], workers: int) -> float:
    """Return the work of the busiest worker; parts are taken in order, the dearest first."""
    loads = np.zeros(workers)
    for of_part in sorted(work, reverse=True):
        loads[np.argmin(loads)] += of_part
    return float(loads.max())
