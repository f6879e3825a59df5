"""Cost metrics, one a file; additive over sub-blocks, and exact unless measured."""

from evaluators.costs.kv import KV
from evaluators.costs.latency import LATENCY, THROUGHPUT
from evaluators.costs.macs import MACS
from evaluators.costs.params import PARAMS
from evaluators.costs.size import SIZE
from evaluators.metric import Metric

COSTS: dict[str, Metric] = {metric.name: metric for metric in (PARAMS, SIZE, MACS, KV)}
MEASURED: dict[str, Metric] = {metric.name: metric for metric in (LATENCY, THROUGHPUT)}
"""Costs that take a table measured on the device; no model has them without."""
