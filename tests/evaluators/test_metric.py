import math
from importlib import import_module

import pytest

from evaluators.metric import (
    COST_KINDS,
    METRICS,
    front_metrics,
    limitable_names,
    metric_names,
    searched_names,
)
from evaluators.quality import QUALITY


def test_every_metric_is_listed_once_under_its_name() -> None:
    assert [metric.name for metric in METRICS.values()] == list(METRICS)
    assert {"params", "throughput", "kl", "cosine"} <= set(METRICS)


def test_kinds_part_the_metrics() -> None:
    names = (*metric_names(*COST_KINDS), *metric_names("quality"))
    assert names == tuple(METRICS)
    assert metric_names("experts") == ("active", "active_size", "loading")
    assert metric_names("sparse", "measured") == ("nonzero", "packed", "latency", "throughput")


def test_only_likeness_and_throughput_are_better_when_larger() -> None:
    maximised = [metric.name for metric in METRICS.values() if metric.is_maximised]
    assert maximised == ["throughput", "agreement", "acceptance", "cosine"]


@pytest.mark.parametrize("name", metric_names(*COST_KINDS))
def test_a_cost_is_computed_in_the_file_of_its_entry(name: str) -> None:
    cost = METRICS[METRICS[name].minimised]  # throughput is read off the latency
    home = import_module(f"evaluators.costs.{cost.file or cost.name}")
    assert callable(getattr(home, f"{cost.name}_table"))


def test_a_quality_metric_is_computed_in_the_file_of_its_name() -> None:
    assert tuple(QUALITY) == metric_names("quality")
    homes = {name: measure.__module__ for name, measure in QUALITY.items()}
    assert homes == {name: f"evaluators.quality.{name}" for name in QUALITY}


def test_a_budget_may_limit_all_costs_and_what_decides() -> None:
    assert limitable_names() == (*metric_names(*COST_KINDS), "kl")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("params", 134_515_008, "134.5M"),
        ("params", 999_960, "1.0M"),
        ("params", 999_940, "999.9K"),
        ("params", 576, "576"),
        ("params", 7.24e9, "7.2B"),
        ("size", 180_200_000, "180.2 MB"),
        ("size", 0, "0 B"),
        ("macs", 106_200_000, "106.2M/token"),
        ("kv", 46_080, "46.1 kB/token"),
        ("active", 60_000_000, "60.0M/token"),
        ("loading", 49_500_000, "49.5 MB/token"),
        ("latency", 24.64, "24.6 ms"),
        ("latency", 2540.0, "2.5 s"),
        ("throughput", 12345.67, "12345.7 tokens/s"),
        ("kl", 0.012344, "0.01234"),
    ],
)
def test_amounts_for_people(name: str, value: float, shown: str) -> None:
    assert METRICS[name].amount(value) == shown


def test_an_amount_has_as_many_decimals_as_are_asked_for() -> None:
    assert METRICS["params"].amount(134_515_008, 2) == "134.52M"
    assert METRICS["size"].amount(512, 2) == "512 B"


def test_units_are_those_of_amounts_and_powers_of_two_of_bytes() -> None:
    assert METRICS["macs"].units == {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    assert METRICS["latency"].units == {"ms": 1.0, "s": 1e3}
    assert METRICS["size"].units["MiB"] == 1024.0**2
    assert METRICS["kl"].units == {}


def test_a_metric_says_what_may_be_below_zero_and_what_is_shown() -> None:
    assert [metric.name for metric in METRICS.values() if metric.lowest] == ["cosine"]
    assert searched_names() == ("kl", "nll", "agreement")
    assert [metric.name for metric in front_metrics()] == ["nll", "agreement"]
    assert METRICS["nll"].amount(math.log(20.0)) == "20.00"
    assert METRICS["agreement"].amount(0.5721) == "57.2%"
