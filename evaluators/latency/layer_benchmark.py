"""Measuring a latency table: stacks of a model's own layers, pruned alike, against bare ones."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from evaluators.latency.latency_setting import Setting
from evaluators.latency.latency_table import Curve, Grid, LatencyTable, LayerTimes
from evaluators.latency.stack_cases import KindCases, StackCase, list_cases
from evaluators.latency.stack_timer import StackTimer, Times
from evaluators.latency.workload import Latency
from search_spaces.progress import NO_PROGRESS, Progress
from search_spaces.space.block_options import BlockOptions, combined_options
from search_spaces.space.number_format import STORED
from search_spaces.structure.model import ModelStructure

TURNS = 5
"""How often each stack is timed."""


class LayerBenchmark:
    """Times the parts of a model in a runtime, turn by turn.

    A stack of a model's layers, all pruned alike, runs in the place of its own. What it takes more
    than the same stack with all components dropped, divided by its layers, is the time of one
    component at that width: all else cancels. (A line fitted through none, half and all of them
    has that slope too, and half of them against all has twice the error.) What a bare layer takes
    is the whole bare stack against half of it. A runtime that leaves bare layers out has none to
    time: there a stack of one thin layer against one of many tells what all else takes.

    Distinct layers are stacked: repeating one layer would read its weights from the cache, where
    a real model reads memory.

    Args:
        structure: The dense model.
        timer: Of its stacks, in one runtime.
        block_options: For each component its options; None: the dense one only. Experts are timed
            on a small grid of their count, how many run and how wide they are; number formats at
            full width, in runtimes that compute with them.
    """

    def __init__(
        self,
        structure: ModelStructure,
        timer: StackTimer,
        block_options: Sequence[Sequence[BlockOptions]] | None = None,
    ) -> None:
        self._structure = structure
        self._timer = timer
        self._options = tuple(block_options or [combined_options()] * len(structure.components))
        self._kinds = list_cases(
            structure, self._options, bare_layers=timer.bare_layers, runtime=timer.runtime.name
        )
        self.cases = [case for kind in self._kinds for case in kind.cases]
        self._dense_turns: list[Times] = []
        self._case_turns: list[list[Times]] = []
        timer.time_dense()  # warm-up, not counted

    def turn(self, progress: Progress = NO_PROGRESS, turns: int = 1) -> None:
        """Time the dense model and each stack once more.

        Args:
            progress: Advanced after each stack.
            turns: In all, for the progress.
        """
        before = len(self._case_turns) * len(self.cases)
        for done, _ in enumerate(self.steps(), start=before + 1):
            progress.advance(done, turns * len(self.cases))

    def steps(self) -> Iterator[None]:
        """Do the same, and pause after each stack for whoever times something else in between."""
        self._dense_turns.append(self._timer.time_dense())
        times: list[Times] = []
        self._case_turns.append(times)
        for case in self.cases:
            times.append(self._timer.time(case))
            yield

    def table(self) -> LatencyTable:
        """Return what the turns so far come to, each time the median over them."""
        dense = np.median(self._dense_turns, axis=0)  # (phases,)
        medians = np.median(self._case_turns, axis=0)  # (cases, phases)
        stacks: dict[StackCase, Times] = dict(zip(self.cases, medians, strict=True))
        timer = self._timer
        outside = [_outside(kind, stacks) for kind in self._kinds]
        rest = np.clip(np.median(outside, axis=0), 0.0, dense)
        return LatencyTable(
            setting=Setting.of(self._structure, timer.workload, self._options, timer.runtime),
            dense=_latency(dense),
            rest=_latency(rest),
            rest_in={
                case.ends.name: _latency(
                    np.clip(rest + stacks[case] - stacks[kind.short], 0.0, dense)
                )
                for kind in self._kinds
                for case in kind.ends
            },
            kinds=tuple(
                _collect(self._structure, kind, *_layers(kind, stacks)) for kind in self._kinds
            ),
        )


def measure_table(
    structure: ModelStructure,
    timer: StackTimer,
    progress: Progress = NO_PROGRESS,
    block_options: Sequence[Sequence[BlockOptions]] | None = None,
) -> LatencyTable:
    """Time the parts of a model, as many turns as a table takes; see `LayerBenchmark`."""
    benchmark = LayerBenchmark(structure, timer, block_options)
    for _ in range(TURNS):
        benchmark.turn(progress, TURNS)
    return benchmark.table()


def _outside(kind: KindCases, stacks: Mapping[StackCase, Times]) -> Times:
    """Return milliseconds of all outside the layers: the long stack without any of its own.

    Example:
        10 ms outside the layers, 2 for each of them:

        >>> long = StackCase(layers=(0, 1, 2, 3), kept=(0,))
        >>> kind = KindCases(group=long.layers, long=long, short=long.shorter(2), widths=())
        >>> _outside(kind, {long: np.array([18.0]), kind.short: np.array([14.0])})
        array([10.])
    """
    more = len(kind.long.layers) - len(kind.short.layers)
    difference = np.maximum(stacks[kind.long] - stacks[kind.short], 0.0)
    # of a single layer that is never left out, what it takes cannot be told from all else
    layer: Times = difference / more if more else difference
    return np.asarray(stacks[kind.long] - len(kind.long.layers) * layer)


def _layers(
    kind: KindCases, stacks: Mapping[StackCase, Times]
) -> tuple[Times, dict[StackCase, Times]]:
    """Return milliseconds of a bare layer, and of one of each width, its call included.

    Example:
        10 ms outside the layers, 2 for each call and 3 for each component:

        >>> long = StackCase(layers=(0, 1, 2, 3), kept=(0,))
        >>> case = StackCase(layers=(0, 1, 2, 3), kept=(5,))
        >>> kind = KindCases(group=long.layers, long=long, short=long.shorter(2), widths=(case,))
        >>> milliseconds = {long: 10 + 4 * 2, kind.short: 10 + 2 * 2, case: 10 + 4 * (2 + 3)}
        >>> stacks = {key: np.array([float(ms)]) for key, ms in milliseconds.items()}
        >>> call, layers = _layers(kind, stacks)
        >>> call, layers[case]
        (array([2.]), array([5.]))
    """
    outside = _outside(kind, stacks)
    bare = outside if any(kind.long.kept) else stacks[kind.long]
    call: Times = (bare - outside) / len(kind.long.layers)
    layers = {
        case: call + np.maximum(stacks[case] - bare, 0.0) / len(case.layers)
        for case in kind.widths
    }
    return call, layers


def _collect(
    structure: ModelStructure, kind: KindCases, call: Times, layers: Mapping[StackCase, Times]
) -> LayerTimes:
    """Arrange the times of one kind of layer."""
    parts: dict[str, Curve | Grid] = {}
    for place, component in enumerate(structure.layers[kind.group[0]].components):
        points = {
            (case.kept[place], case.options.top_k, case.options.channels): times
            for case, times in layers.items()
            if case.kept[place] and case.options.format == STORED
        }
        in_formats = {
            case.options.format.name: _latency(times)
            for case, times in layers.items()
            if case.kept[place] and case.options.format != STORED
        }
        grid = _grid(points).model_copy(update={"in_formats": in_formats})
        is_curve = not any(grid.top_ks + grid.channels)  # over its units alone
        parts[component.kind] = (
            Curve(counts=grid.counts, latencies=grid.latencies, in_formats=in_formats)
            if is_curve
            else grid
        )
    return LayerTimes.of(kind.group, _latency(call), parts)


def _grid(points: Mapping[tuple[int, int, int], Times]) -> Grid:
    """Order points along each axis, made monotone along each."""
    counts, top_ks, channels = (
        tuple(sorted({point[axis] for point in points})) for axis in range(3)
    )
    shape = len(counts), len(top_ks), len(channels)
    values = np.array([points[point] for point in product(counts, top_ks, channels)])
    monotone = _monotone(values.reshape(*shape, -1)).reshape(len(values), -1)
    return Grid(
        counts=counts,
        top_ks=top_ks,
        channels=channels,
        latencies=tuple(map(_latency, monotone)),
    )


def _monotone(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Level values that fall along one of the first three axes with those before them.

    The running maximum from below and the running minimum from above are both monotone and bound
    the values; midway between them favours neither slow nor fast measurements.

    Args:
        values: ``(counts, top_ks, channels, phases)``

    Example:
        >>> _monotone(np.array([1.0, 3.0, 2.0, 4.0]).reshape(4, 1, 1, 1)).ravel()
        array([1. , 2.5, 2.5, 4. ])
    """
    rising = falling = values
    for axis in range(3):
        rising = np.maximum.accumulate(rising, axis=axis)
        falling = np.flip(np.minimum.accumulate(np.flip(falling, axis), axis=axis), axis)
    return np.asarray((rising + falling) / 2)


def _latency(times: Times) -> Latency:
    return Latency(prefill_ms=float(times[0]), decode_ms=float(times[1]))
