"""Cost metrics, one a file; additive over components. Those listed here are exact."""

from evaluators.costs.kv import KV
from evaluators.costs.macs import MACS
from evaluators.costs.nonzero import NONZERO
from evaluators.costs.packed import PACKED
from evaluators.costs.params import PARAMS
from evaluators.costs.size import SIZE
from evaluators.metric import Metric

COSTS: dict[str, Metric] = {
    metric.name: metric for metric in (PARAMS, SIZE, MACS, KV, NONZERO, PACKED)
}
