"""Measuring a latency table: stacks of a model's own layers, cut alike, against bare ones."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from evaluators.latency.latency_table import (
    Curve,
    Grid,
    LatencyTable,
    LayerTimes,
    Setting,
    layer_kinds,
    timed_ways,
)
from evaluators.latency.measure import (
    Latency,
    Workload,
    measure_latencies,
    next_token,
    now,
    prompt_of,
)
from search_spaces.progress import NO_PROGRESS, Progress
from search_spaces.space.block_options import (
    DENSE_OPTIONS,
    UNCUT,
    BlockOptions,
    ExpertCut,
    combined_options,
)
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import cut

TURNS = 5
"""How often each stack is timed."""
PREFILLS = 3
"""In a turn."""
STEPS = 6
"""Tokens written in a turn at most; they lie in the middle of the workload's."""
MOST_LAYERS = 32
"""In a stack."""
MOST_BYTES = 2**31
"""Of copied weights in a stack, where two layers take no more."""
POINTS = (1 / 16, 1 / 4, 1 / 2, 3 / 4, 1)
"""Widths at which an MLP is timed, and an attention of many groups."""
FEW_UNITS = 6
"""Up to here every count is timed."""
ALIGNMENT = 16
"""Timed widths are multiples, as levels are: others are slower."""
EVICTED_BYTES = 2**27
_TINY = 1e-12

Times = NDArray[np.float64]
Variants = tuple[Sequence[BlockOptions], ...]


@dataclass(frozen=True, kw_only=True)
class _Case:
    """Layers of one kind, all cut to the same widths."""

    layers: tuple[int, ...]
    kept: tuple[int, ...]
    """Units of each of the layer's components."""
    options: BlockOptions = DENSE_OPTIONS
    """How its experts are thinned out."""
    is_half: bool = False
    """Whether it is only there to tell what a bare layer takes."""

    @property
    def half(self) -> int:
        return len(self.layers) // 2


def _cases(
    structure: ModelStructure, group: tuple[int, ...], block_options: Variants
) -> list[_Case]:
    """List what is timed of one kind of layer: bare layers, half and all, then each component."""
    first, span = structure.layers[group[0]], structure.spans[group[0]]
    weight_bytes = sum(w.nbytes for w in structure.backbone.layers[group[0]].parameters())
    room = min(MOST_LAYERS, MOST_BYTES // max(1, weight_bytes))
    layers = group[: max(2, room)]
    bare = _Case(layers=layers, kept=(0,) * len(first.components))
    cases = [replace(bare, layers=layers[: bare.half], is_half=True), bare]
    for place, (component, own) in enumerate(
        zip(first.components, block_options[span], strict=True)
    ):
        for count, options in _timed(component, own):
            kept = (*bare.kept[:place], count, *bare.kept[place + 1 :])
            cases.append(replace(bare, kept=kept, options=options))
    return cases


def _timed(
    component: Component, block_options: Sequence[BlockOptions]
) -> list[tuple[int, BlockOptions]]:
    """List the widths at which a component is timed, and how it is thinned out at each."""
    if component.experts is None:
        return [(count, DENSE_OPTIONS) for count in timed_counts(component.unit_count)]
    lowest = component.experts.lowest  # fewer cannot give as many as run
    counts = {lowest, *(count for count in timed_counts(component.unit_count) if count > lowest)}
    top_ks, channels = timed_ways(component.experts, block_options)
    return [
        (count, BlockOptions(channels=width, top_k=top_k))
        for count, top_k, width in product(sorted(counts), top_ks, channels)
    ]


def timed_counts(unit_count: int) -> list[int]:
    """Give the widths to time, ascending, the last all units."""
    if unit_count <= FEW_UNITS:
        return list(range(1, unit_count + 1))
    step = ALIGNMENT if unit_count > ALIGNMENT * len(POINTS) else 1
    wanted = {max(1, round(unit_count * point / step)) * step for point in POINTS[:-1]}
    return [*sorted(count for count in wanted if count < unit_count), unit_count]


class _Bench:
    """Runs stacks of layers in the place of the model's own."""

    def __init__(self, structure: ModelStructure, workload: Workload) -> None:
        self._structure = structure
        self._workload = workload
        model = structure.backbone.model
        weight_bytes = sum(weight.nbytes for weight in model.parameters())
        size = min(weight_bytes, EVICTED_BYTES) // 4
        self._other = torch.ones(size, dtype=torch.float32, device=model.device)

    def cut(self, case: _Case) -> nn.ModuleList:
        """Cut a stack for real, so that its matrices lie in memory as an export's do."""
        layers = self._structure.backbone.layers
        stack = []
        for index in case.layers:
            choices, thinned = [], UNCUT
            components = self._structure.layers[index].components
            for component, count in zip(components, case.kept, strict=True):
                members = np.sort(component.members(np.arange(component.member_count), count))
                choices.append((component, members))
                if component.experts is not None and count:
                    channels = np.tile(np.arange(case.options.channels), (len(members), 1))
                    thinned = ExpertCut(channels=channels, top_k=case.options.top_k)
            stack.append(cut(layers[index], choices, (), thinned))
        return nn.ModuleList(stack)

    def time(self, stack: nn.ModuleList) -> Times:
        """Give milliseconds of prefill and of a decode step through a stack, ``(2,)``."""
        with _standing_in(self._structure, stack):
            return self._time()

    def _time(self) -> Times:
        model, workload = self._structure.backbone.model, self._workload
        prompt = prompt_of(model, workload)
        prefill = []
        for _ in range(PREFILLS):
            start = self._start()
            output = model(prompt, use_cache=True, logits_to_keep=1)
            prefill.append(now(model) - start)
        steps = min(STEPS, workload.new_tokens)
        # a step takes longer the more it looks back on: time those in the middle
        skipped = (workload.new_tokens - steps) // 2
        if skipped:
            between = prompt[:, :1].expand(-1, skipped)
            cache = output.past_key_values
            output = model(between, past_key_values=cache, use_cache=True, logits_to_keep=1)
        decode = []
        for _ in range(steps):
            start = self._start()
            output = next_token(model, output)
            decode.append(now(model) - start)
        # as a request is timed: the median prompt, and the mean of what is written
        return 1e3 * np.array([np.median(prefill), np.mean(decode or 0.0)])

    def _start(self) -> float:
        """Empty the caches of what the stack left there, as the rest of a real model does."""
        self._other.sum()
        return now(self._structure.backbone.model)


@contextmanager
def _standing_in(structure: ModelStructure, stack: nn.ModuleList) -> Iterator[None]:
    """Let the model run other layers than its own."""
    decoder, name = structure.backbone.decoder, structure.backbone.stack_path.rpartition(".")[2]
    setattr(decoder, name, stack)
    try:
        yield
    finally:
        setattr(decoder, name, structure.backbone.layers)


@torch.inference_mode()
def measure_table(
    structure: ModelStructure,
    workload: Workload,
    progress: Progress = NO_PROGRESS,
    block_options: Sequence[Sequence[BlockOptions]] | None = None,
) -> LatencyTable:
    """Time the parts of a model on its device, in its dtype.

    A stack of a model's layers, all cut alike, runs through the model's own forward. What it takes
    more than the same stack with nothing left in its layers, shared out, is the time of one
    component at that width: all else cancels. (A line fitted through none, half and all of them
    has that slope too, and half of them against all has twice the error.) What a bare layer takes
    is the whole bare stack against half of it. Distinct layers are stacked and the caches emptied
    before each step: repeating one layer would read its weights from the cache, where a real model
    reads memory.

    Args:
        structure: The dense model; it is as before afterwards.
        workload: What is timed.
        progress: Told how many of how many measurements are done.
        block_options: For each component how it may be thinned out; none: not. Experts are timed
            on a small grid of how many stay, how many run and how wide they are.
    """
    groups = layer_kinds(structure)
    every = tuple(block_options or [combined_options()] * len(structure.components))
    cases = [case for layers in groups for case in _cases(structure, layers, every)]
    bench = _Bench(structure, workload)
    bench.time(structure.backbone.layers)  # warm-up, not counted
    dense, rows = [], []
    for turn in range(TURNS):
        dense.append(bench.time(structure.backbone.layers))
        for done, case in enumerate(cases, start=turn * len(cases) + 1):
            rows.append(bench.time(bench.cut(case)))
            progress.advance(done, TURNS * len(cases))
    whole = np.median(dense, axis=0)  # (phases,)
    middle = np.median(np.array(rows).reshape(TURNS, len(cases), 2), axis=0)
    stacks = dict(zip(cases, middle, strict=True))
    layers = {case: _one_layer(case, stacks) for case in cases if not case.is_half}
    rest = np.clip(_outside(stacks, layers), 0.0, whole)
    # from caches emptied before each step to those that a running request leaves behind
    request = measure_latencies({"dense": structure.backbone.model}, workload)["dense"]
    typical = np.array([request.prefill_ms, request.decode_ms])
    slowed = typical / np.maximum(whole, _TINY)
    found = {case: slowed * times for case, times in layers.items()}
    return LatencyTable(
        setting=Setting.of(structure, workload, every),
        dense=_latency(slowed * whole),
        rest=_latency(slowed * rest),
        kinds=tuple(_collect(structure, group, found) for group in groups),
    )


def _one_layer(case: _Case, stacks: Mapping[_Case, Times]) -> Times:
    """Give milliseconds of one layer of a case, its call included."""
    bare = replace(case, kept=(0,) * len(case.kept), options=DENSE_OPTIONS)
    half = replace(bare, layers=bare.layers[: bare.half], is_half=True)
    call: Times = np.maximum(stacks[bare] - stacks[half], 0.0) / (len(bare.layers) - bare.half)
    return call + np.maximum(stacks[case] - stacks[bare], 0.0) / len(case.layers)


def _outside(stacks: Mapping[_Case, Times], layers: Mapping[_Case, Times]) -> Times:
    """Give milliseconds of everything outside the layers: bare stacks without their calls."""
    bare = [case for case in layers if not any(case.kept)]
    found: Times = np.median([stacks[c] - len(c.layers) * layers[c] for c in bare], axis=0)
    return found


def _collect(
    structure: ModelStructure, group: tuple[int, ...], found: Mapping[_Case, Times]
) -> LayerTimes:
    """Arrange what was found of one kind of layer."""
    mine = {case: times for case, times in found.items() if case.layers[0] == group[0]}
    parts: dict[str, Curve | Grid] = {}
    for place, component in enumerate(structure.layers[group[0]].components):
        own = {case: times for case, times in mine.items() if case.kept[place]}
        points = {
            (case.kept[place], case.options.top_k, case.options.channels): times
            for case, times in own.items()
        }
        parts[component.kind] = _curve(points) if component.experts is None else _grid(points)
    call = next(_latency(times) for case, times in mine.items() if not any(case.kept))
    return LayerTimes.model_validate({"layers": group, "call": call, **parts})


def _curve(points: Mapping[tuple[int, int, int], Times]) -> Curve:
    """Order points by width; one that took less than a narrower one is levelled with it."""
    grid = _grid(points)
    return Curve(counts=grid.counts, latencies=grid.latencies)


def _grid(points: Mapping[tuple[int, int, int], Times]) -> Grid:
    """Order points along each axis; one that took less than a smaller one is levelled with it."""
    counts, top_ks, channels = (
        tuple(sorted({point[axis] for point in points})) for axis in range(3)
    )
    shape = len(counts), len(top_ks), len(channels)
    values = np.array([points[point] for point in product(counts, top_ks, channels)])
    rising = falling = values.reshape(*shape, -1)
    for axis in range(3):
        rising = np.maximum.accumulate(rising, axis=axis)
        falling = np.flip(np.minimum.accumulate(np.flip(falling, axis), axis=axis), axis)
    # midway between the bounds from either side: neither favours slow nor fast measurements
    levelled = ((rising + falling) / 2).reshape(len(values), -1)
    return Grid(
        counts=counts,
        top_ks=top_ks,
        channels=channels,
        latencies=tuple(map(_latency, levelled)),
    )


def _latency(times: Times) -> Latency:
    return Latency(prefill_ms=float(times[0]), decode_ms=float(times[1]))
