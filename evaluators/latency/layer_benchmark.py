"""Measuring a latency table: stacks of a model's own layers, pruned alike, against bare ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from evaluators.latency.latency_table import (
    Curve,
    Grid,
    LatencyTable,
    LayerTimes,
    Setting,
    layer_kinds,
    timed_inside,
)
from evaluators.latency.measure import Latency, Workload, measure_latencies
from evaluators.latency.stack_timer import StackCase, StackTimer, Times
from search_spaces.progress import NO_PROGRESS, Progress
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions, combined_options
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

TURNS = 5
"""How often each stack is timed."""
MOST_LAYERS = 32
"""In a stack."""
MOST_BYTES = 2**31
"""Of copied weights in a stack, unless two layers take more."""
POINTS = (1 / 16, 1 / 4, 1 / 2, 3 / 4, 1)
"""Widths at which an MLP is timed, and an attention of many groups."""
FEW_UNITS = 6
"""Up to here every count is timed."""
ALIGNMENT = 16
"""Timed widths are multiples, as levels are: others are slower."""
_TINY = 1e-12


@torch.inference_mode()
def measure_table(
    structure: ModelStructure,
    workload: Workload,
    progress: Progress = NO_PROGRESS,
    block_options: Sequence[Sequence[BlockOptions]] | None = None,
) -> LatencyTable:
    """Time the parts of a model on its device, in its dtype.

    A stack of a model's layers, all pruned alike, runs through the model's own forward. What it
    takes more than the same stack with all components dropped, divided by its layers, is the time
    of one component at that width: all else cancels. (A line fitted through none, half and all of
    them has that slope too, and half of them against all has twice the error.) What a bare layer
    takes is the whole bare stack against half of it. Distinct layers are stacked and the caches
    emptied before each step: repeating one layer would read its weights from the cache, where a
    real model reads memory.

    Args:
        structure: The dense model; it is as before afterwards.
        workload: What is timed.
        progress: Advanced after each measurement.
        block_options: For each component its options; None: the dense one only. Experts are timed
            on a small grid of their count, how many run and how wide they are.
    """
    groups = layer_kinds(structure)
    all_options = tuple(block_options or [combined_options()] * len(structure.components))
    cases = [case for layers in groups for case in _cases(structure, layers, all_options)]
    timer = StackTimer(structure, workload)
    timer.time(structure.backbone.stack.blocks)  # warm-up, not counted
    dense_turns, case_turns = [], []
    for turn in range(TURNS):
        dense_turns.append(timer.time(structure.backbone.stack.blocks))
        for done, case in enumerate(cases, start=turn * len(cases) + 1):
            case_turns.append(timer.time(timer.cut(case)))
            progress.advance(done, TURNS * len(cases))
    dense = np.median(dense_turns, axis=0)  # (phases,)
    medians = np.median(np.array(case_turns).reshape(TURNS, len(cases), 2), axis=0)
    stacks = dict(zip(cases, medians, strict=True))
    layers = {case: _one_layer(case, stacks) for case in cases if not case.is_half}
    rest = np.clip(_outside(stacks, layers), 0.0, dense)
    # from caches emptied before each step to those that a running request leaves behind
    request = measure_latencies({"dense": structure.backbone.model}, workload)["dense"]
    typical = np.array([request.prefill_ms, request.decode_ms])
    scale = typical / np.maximum(dense, _TINY)
    scaled = {case: scale * times for case, times in layers.items()}
    return LatencyTable(
        setting=Setting.of(structure, workload, all_options),
        dense=_latency(scale * dense),
        rest=_latency(scale * rest),
        kinds=tuple(_collect(structure, group, scaled) for group in groups),
    )


def timed_counts(unit_count: int) -> list[int]:
    """Return the numbers of units to time, ascending, the last all units.

    Example:
        >>> timed_counts(1536)
        [96, 384, 768, 1152, 1536]
    """
    if unit_count <= FEW_UNITS:
        return list(range(1, unit_count + 1))
    step = ALIGNMENT if unit_count > ALIGNMENT * len(POINTS) else 1
    aligned = {max(1, round(unit_count * point / step)) * step for point in POINTS[:-1]}
    return [*sorted(count for count in aligned if count < unit_count), unit_count]


def _cases(
    structure: ModelStructure,
    group: tuple[int, ...],
    block_options: Sequence[Sequence[BlockOptions]],
) -> list[StackCase]:
    """List what is timed of one kind of layer: bare layers, half and all, then each component."""
    first, span = structure.layers[group[0]], structure.spans[group[0]]
    weight_bytes = sum(w.nbytes for w in structure.backbone.layers[group[0]].parameters())
    room = min(MOST_LAYERS, MOST_BYTES // max(1, weight_bytes))
    # a decoder may run no more of them than its model has blocks
    layers = group[: min(max(2, room), len(structure.backbone.stack.blocks))]
    bare = StackCase(layers=layers, kept=(0,) * len(first.components))
    cases = [replace(bare, layers=layers[: bare.half], is_half=True), bare]
    for place, (component, component_options) in enumerate(
        zip(first.components, block_options[span], strict=True)
    ):
        for count, options in _timed(component, component_options):
            kept = (*bare.kept[:place], count, *bare.kept[place + 1 :])
            cases.append(replace(bare, kept=kept, options=options))
    return cases


def _timed(
    component: Component, block_options: Sequence[BlockOptions]
) -> list[tuple[int, BlockOptions]]:
    """List the numbers of units, each with options, at which a component is timed."""
    counts = {count for count in timed_counts(component.unit_count) if count >= component.lowest}
    counts |= set(component.timed_counts)
    top_ks, channels = timed_inside(component, block_options)
    return [
        (count, BlockOptions(channels=width, top_k=top_k))
        for count, top_k, width in product(sorted(counts), top_ks, channels)
    ]


def _one_layer(case: StackCase, stacks: Mapping[StackCase, Times]) -> Times:
    """Return milliseconds of one layer of a case, its call included.

    A stack of n layers takes ``rest + n (call + component)``, a bare one ``rest + n call``: their
    difference over n is the component, that of n and n / 2 bare layers over n / 2 the call.

    Example:
        10 ms outside the layers, 2 for each call and 3 for each component:

        >>> bare = StackCase(layers=(0, 1, 2, 3), kept=(0,))
        >>> half = replace(bare, layers=(0, 1), is_half=True)
        >>> case = replace(bare, kept=(5,))
        >>> milliseconds = {half: 10 + 2 * 2, bare: 10 + 4 * 2, case: 10 + 4 * (2 + 3)}
        >>> _one_layer(case, {key: np.array([ms]) for key, ms in milliseconds.items()})
        array([5.])
    """
    bare = replace(case, kept=(0,) * len(case.kept), options=DENSE_OPTIONS)
    half = replace(bare, layers=bare.layers[: bare.half], is_half=True)
    call: Times = np.maximum(stacks[bare] - stacks[half], 0.0) / (len(bare.layers) - bare.half)
    return call + np.maximum(stacks[case] - stacks[bare], 0.0) / len(case.layers)


def _outside(stacks: Mapping[StackCase, Times], layers: Mapping[StackCase, Times]) -> Times:
    """Return milliseconds of everything outside the layers: bare stacks without their calls."""
    bare = [case for case in layers if not any(case.kept)]
    outside: Times = np.median([stacks[c] - len(c.layers) * layers[c] for c in bare], axis=0)
    return outside


def _collect(
    structure: ModelStructure, group: tuple[int, ...], layers: Mapping[StackCase, Times]
) -> LayerTimes:
    """Arrange the times of one kind of layer."""
    of_kind = {case: times for case, times in layers.items() if case.layers[0] == group[0]}
    parts: dict[str, Curve | Grid] = {}
    for place, component in enumerate(structure.layers[group[0]].components):
        points = {
            (case.kept[place], case.options.top_k, case.options.channels): times
            for case, times in of_kind.items()
            if case.kept[place]
        }
        grid = _grid(points)
        is_curve = not any(grid.top_ks + grid.channels)  # over its units alone
        parts[component.kind] = (
            Curve(counts=grid.counts, latencies=grid.latencies) if is_curve else grid
        )
    call = next(_latency(times) for case, times in of_kind.items() if not any(case.kept))
    return LayerTimes.of(group, call, parts)


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
