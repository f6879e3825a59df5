"""Milliseconds of a request, put together from a table measured on the device; and throughput."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evaluators.costs.tally import Floats, Tally, total
from evaluators.latency import Latency
from evaluators.latency_table import Curve, LatencyTable, LayerTimes
from evaluators.metric import Metric
from search_spaces.structure.read import ModelStructure

Phase = Callable[[Latency], float]

LATENCY = Metric(
    name="latency",
    unit="milliseconds/request",
    direction="minimise",
    source="sum over a table measured on the device: the prompt, and each new token",
)
THROUGHPUT = Metric(
    name="throughput",
    unit="tokens/second",
    direction="maximise",
    source="new tokens of a request over its latency; prompt tokens where none are new",
)


def tally_latency(structure: ModelStructure, table: LatencyTable) -> Tally:
    """Put together the latency of a request.

    Each sub-block is interpolated between measured widths; what a layer's call takes is paid once
    by a layer that keeps anything. One factor makes the parts add up to the dense model.
    """
    prefill, decode = _phases(structure, table)
    new_tokens = table.setting.workload.new_tokens
    return Tally(
        tables=tuple(
            first + new_tokens * second
            for first, second in zip(prefill.tables, decode.tables, strict=True)
        ),
        shared=prefill.shared + new_tokens * decode.shared,
        rest=prefill.rest + new_tokens * decode.rest,
    )


def predict(
    structure: ModelStructure, table: LatencyTable, counts: NDArray[np.int_]
) -> list[Latency]:
    """Predict both phases of candidates from kept units ``(candidates, sub_blocks)``."""
    prefill, decode = (total(tally, structure, counts) for tally in _phases(structure, table))
    return [
        Latency(prefill_ms=float(first), decode_ms=float(second))
        for first, second in zip(prefill, decode, strict=True)
    ]


def _phases(structure: ModelStructure, table: LatencyTable) -> tuple[Tally, Tally]:
    """Take prefill apart, and a decode step."""
    return (
        _tally(structure, table, lambda latency: latency.prefill_ms),
        _tally(structure, table, lambda latency: latency.decode_ms),
    )


def _tally(structure: ModelStructure, table: LatencyTable, phase: Phase) -> Tally:
    call = np.zeros(len(structure.layers))
    attention: dict[int, Floats] = {}
    mlp: dict[int, Floats] = {}
    for kind in table.kinds:
        call[list(kind.layers)] = phase(kind.call)
        attention |= dict.fromkeys(kind.layers, _interpolated(kind, kind.attention, phase))
        mlp |= dict.fromkeys(kind.layers, _interpolated(kind, kind.mlp, phase))
    tables = [by_layer[index] for index in range(len(call)) for by_layer in (attention, mlp)]
    parts = float(call.sum()) + sum(float(costs[-1]) for costs in tables)
    scale = (phase(table.dense) - phase(table.rest)) / parts if parts else 0.0
    return Tally(
        tables=tuple(scale * costs for costs in tables),
        shared=scale * call,
        rest=phase(table.dense) - scale * parts,
    )


def _interpolated(kind: LayerTimes, curve: Curve, phase: Phase) -> Floats:
    """Give what a sub-block adds to its layer's call, ``(units + 1,)``.

    Below the narrowest width that was measured a sub-block costs as much as there: what is left
    of it is the calls and not the sums.
    """
    added = [max(0.0, phase(latency) - phase(kind.call)) for latency in curve.latencies]
    costs: Floats = np.interp(np.arange(curve.counts[-1] + 1), curve.counts, added)
    costs[0] = 0.0
    return costs
