from evaluators.costs.active import ACTIVE
from evaluators.costs.expert_bytes import LOADING
from evaluators.costs.kv import KV
from evaluators.costs.latency import LATENCY, THROUGHPUT
from evaluators.costs.macs import MACS
from evaluators.costs.nonzero import NONZERO
from evaluators.costs.packed import PACKED
from evaluators.costs.params import PARAMS
from evaluators.costs.size import SIZE
from evaluators.quality import QUALITY

COSTS = (PARAMS, SIZE, MACS, KV, NONZERO, PACKED, ACTIVE, LOADING, LATENCY, THROUGHPUT)


def test_metrics_have_their_own_distinct_names() -> None:
    assert all(name == metric.name for name, (metric, _) in QUALITY.items())
    assert sorted([metric.name for metric in COSTS] + list(QUALITY)) == [
        "acceptance", "active", "agreement", "cosine", "kl", "kv", "latency", "loading", "macs",
        "nll", "nonzero", "packed", "params", "size", "throughput",
    ]  # fmt: skip


def test_only_likeness_and_throughput_are_better_when_larger() -> None:
    metrics = [*COSTS, *(metric for metric, _ in QUALITY.values())]
    maximised = [m.name for m in metrics if m.direction == "maximise"]
    assert maximised == ["throughput", "agreement", "acceptance", "cosine"]
