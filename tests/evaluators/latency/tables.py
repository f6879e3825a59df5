"""Latencies by hand."""

from evaluators.latency.latency_setting import Setting
from evaluators.latency.latency_table import Curve, LatencyTable, LayerTimes
from evaluators.latency.workload import Latency, Workload
from search_spaces.structure.model import ModelStructure

WORKLOAD = Workload(batch_size=2, prompt_tokens=12, new_tokens=3)


def both(milliseconds: float) -> Latency:
    """A decode step takes a tenth of the prefill."""
    return Latency(prefill_ms=milliseconds, decode_ms=milliseconds / 10)


def by_hand(structure: ModelStructure) -> LatencyTable:
    """Three layers: a call of 1 ms, attention of 2 and 3 ms more, an MLP of 4, 6 and 10 more."""
    parts = {
        "attention": Curve(counts=(1, 2), latencies=(both(3), both(4))),
        "mlp": Curve(counts=(12, 24, 48), latencies=(both(5), both(7), both(11))),
    }
    kind = LayerTimes.of((0, 1, 2), both(1), parts)
    return LatencyTable(
        setting=Setting.of(structure, WORKLOAD),
        dense=both(5 + 3 * (1 + 3 + 10)),
        rest=both(5),
        kinds=(kind,),
    )
