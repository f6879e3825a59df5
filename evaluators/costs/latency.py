"""Milliseconds of a request, composed from a table measured on the device; and throughput."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import ComponentOptions, CostTable, Floats, tabulated, total
from evaluators.costs.kept_counts import KeptCounts
from evaluators.latency.latency_table import Curve, Grid, LatencyTable, LayerTimes
from evaluators.latency.workload import Latency
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.configuration import Configurations, dense_configurations
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

Phase = Callable[[Latency], float]


def latency_table(model: CostedModel) -> CostTable:
    """Compose the latency of a request.

    Each component is interpolated between measured widths, experts between measured numbers of
    them too, times what its number format takes at full width as a share of the dense model's; a
    layer's call counts once if the layer keeps any component. One factor makes the parts add up
    to the dense model.
    """
    assert model.latencies is not None
    prefill, decode = _phases(model.structure, model.block_options, model.latencies)
    new_tokens = model.latencies.setting.workload.new_tokens
    return CostTable(
        tables=tuple(
            first + new_tokens * second
            for first, second in zip(prefill.tables, decode.tables, strict=True)
        ),
        shared=prefill.shared + new_tokens * decode.shared,
        rest=prefill.rest + new_tokens * decode.rest,
    )


def predict(
    structure: ModelStructure,
    block_options: ComponentOptions,
    table: LatencyTable,
    configurations: Configurations,
) -> list[Latency]:
    """Predict both phases of candidates.

    Args:
        structure: The model.
        block_options: For each component its options, the dense one first.
        table: Measured of the model.
        configurations: ``(candidates, components)``
    """
    phases = _phases(structure, block_options, table)
    prefill, decode = (total(cost_table, structure, configurations) for cost_table in phases)
    return [
        Latency(prefill_ms=float(first), decode_ms=float(second))
        for first, second in zip(prefill, decode, strict=True)
    ]


def _phases(
    structure: ModelStructure, block_options: ComponentOptions, table: LatencyTable
) -> tuple[CostTable, CostTable]:
    """Tabulate prefill, and a decode step."""
    return (
        _phase_table(structure, block_options, table, lambda latency: latency.prefill_ms),
        _phase_table(structure, block_options, table, lambda latency: latency.decode_ms),
    )


def _phase_table(
    structure: ModelStructure, block_options: ComponentOptions, table: LatencyTable, phase: Phase
) -> CostTable:
    kind_of = {layer: kind for kind in table.kinds for layer in kind.layers}
    call = np.array([phase(kind_of[index].call) for index in range(len(structure.layers))])

    def added(component: Component, options: Sequence[BlockOptions]) -> Floats:
        if component in structure.ends:
            return _of_end(table, options, phase) * (component is structure.ends[-1])
        kind = kind_of[component.layer]
        measured = kind.part(component.kind)
        costs = (
            _interpolated(kind, measured, phase)
            if isinstance(measured, Curve)
            else _in_grid(KeptCounts.of(component, options), kind, measured, phase)
        )
        return _factors(kind, measured, options, phase) * costs

    tables, count = tabulated(structure, block_options, added), len(structure.in_layers)
    configurations = dense_configurations(structure.components)
    dense = [float(costs[c]) for costs, c in zip(tables, configurations, strict=True)]
    parts = float(call.sum()) + sum(dense[:count])
    scale = (phase(table.dense) - phase(table.rest)) / parts if parts else 0.0
    return CostTable(
        tables=(*(scale * costs for costs in tables[:count]), *tables[count:]),
        shared=scale * call,
        rest=phase(table.dense) - scale * parts - sum(dense[count:]),
    )


def _factors(
    kind: LayerTimes, measured: Curve | Grid, options: Sequence[BlockOptions], phase: Phase
) -> Floats:
    """Return what a component takes in its number format as a share, ``(options, 1)``."""
    whole = _added(kind, measured.latencies[-1:], phase)[0]
    timed = {
        name: float(_added(kind, [latency], phase)[0] / whole)
        for name, latency in measured.in_formats.items()
        if whole
    }
    return _by_format(1.0, timed, options)[:, None]


def _of_end(table: LatencyTable, options: Sequence[BlockOptions], phase: Phase) -> Floats:
    """Return what the ends take more than in their fastest number format, ``(options, 2)``.

    It is counted for the one that reads out: rows of an embedding are looked up in no time.
    """
    timed = {name: phase(latency) for name, latency in table.rest_in.items()}
    times = _by_format(phase(table.rest), timed, options)
    return np.outer(times - times.min(), [0.0, 1.0])


def _by_format(
    dense: float, timed: Mapping[str, float], options: Sequence[BlockOptions]
) -> Floats:
    """Return times in number formats, the smaller never slower, ``(options,)``.

    What was not timed takes as long as the next larger. Times that grow as formats get smaller
    are levelled: midway between what favours the slow and the fast ones.

    Example:
        >>> from search_spaces.space.number_format import FORMATS
        >>> formats = [FORMATS[name] for name in ("Q8_0", "Q6_K", "Q4_K")]
        >>> options = [BlockOptions(), *(BlockOptions(format=each) for each in formats)]
        >>> _by_format(1.0, {"Q8_0": 0.5, "Q4_K": 0.7}, options).tolist()
        [1.0, 0.6, 0.6, 0.6]
    """
    times: dict[str, float] = {}
    last = dense
    for name in dict.fromkeys(each.format.name for each in options):  # by falling size
        last = times[name] = min(timed.get(name, last), dense)
    values = np.array([*times.values()])
    falling = np.minimum.accumulate(values)
    rising = np.maximum.accumulate(values[::-1])[::-1]
    levelled = dict(zip(times, (falling + rising) / 2, strict=True))
    return np.array([levelled[each.format.name] for each in options])


def _interpolated(kind: LayerTimes, curve: Curve, phase: Phase) -> Floats:
    """Return what a component adds to its layer's call, ``(units + 1,)``.

    Below the narrowest measured width a component costs as much as there: kernel launches
    dominate, not arithmetic.
    """
    costs: Floats = np.interp(
        np.arange(curve.counts[-1] + 1), curve.counts, _added(kind, curve.latencies, phase)
    )
    costs[0] = 0.0
    return costs


def _in_grid(kept: KeptCounts, kind: LayerTimes, grid: Grid, phase: Phase) -> Floats:
    """Return what a component adds to its layer's call, ``(options, units + 1)``."""
    shape = len(grid.counts), len(grid.top_ks), len(grid.channels)
    # the largest of each row: no candidate keeps fewer members than run
    top_ks = kept.running.max(axis=1)
    costs: Floats = np.einsum(
        "ctw,uc,vt,vw->vu",
        _added(kind, grid.latencies, phase).reshape(shape),
        _weights(grid.counts, np.arange(kept.members.shape[1])),
        _weights(grid.top_ks, top_ks),
        _weights(grid.channels, kept.channels[:, 0]),
    )
    costs[:, 0] = 0.0
    return costs


def _added(kind: LayerTimes, latencies: Sequence[Latency], phase: Phase) -> Floats:
    """Subtract a layer's call from what was measured, ``(points,)``."""
    bare = phase(kind.call)
    return np.array([max(0.0, phase(latency) - bare) for latency in latencies])


def _weights(points: Sequence[int], queries: NDArray[np.int_]) -> Floats:
    """Return the weights of points in a linear interpolation, ``(queries, points)``.

    Example:
        >>> _weights((1, 4), np.array([1, 2, 4])).round(2)
        array([[1.  , 0.  ],
               [0.67, 0.33],
               [0.  , 1.  ]])
    """
    return np.stack([np.interp(queries, points, row) for row in np.eye(len(points))], axis=-1)
