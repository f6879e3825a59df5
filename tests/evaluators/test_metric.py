import pytest

from evaluators.costs import COSTS
from evaluators.metric import Direction, Metric, minimised
from evaluators.quality import QUALITY


@pytest.mark.parametrize(("direction", "expected"), [("minimise", 3.5), ("maximise", -3.5)])
def test_smaller_is_better_after_turning(direction: Direction, expected: float) -> None:
    metric = Metric(name="any", unit="", direction=direction, source="")
    assert minimised(metric, 3.5) == expected


def test_metrics_are_found_by_their_own_distinct_names() -> None:
    found = [*COSTS.items(), *((name, metric) for name, (metric, _) in QUALITY.items())]
    assert all(name == metric.name for name, metric in found)
    assert sorted(name for name, _ in found) == [
        "acceptance", "agreement", "cosine", "kl", "kv", "macs", "nll", "nonzero",
        "packed", "params", "size",
    ]  # fmt: skip


def test_only_likeness_is_better_when_larger() -> None:
    metrics = [*COSTS.values(), *(metric for metric, _ in QUALITY.values())]
    likenesses = [m.name for m in metrics if m.direction == "maximise"]
    assert likenesses == ["agreement", "acceptance", "cosine"]
