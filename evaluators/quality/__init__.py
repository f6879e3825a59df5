"""Quality metrics, one a file; all come from the same pass."""

from collections.abc import Callable, Mapping

from torch import Tensor

from evaluators.metric import Metric
from evaluators.quality.agreement import AGREEMENT, agreement
from evaluators.quality.comparison import Comparison
from evaluators.quality.kl import KL, kl
from evaluators.quality.nll import NLL, nll

QUALITY: Mapping[str, tuple[Metric, Callable[[Comparison], Tensor]]] = {
    metric.name: (metric, function)
    for metric, function in ((KL, kl), (NLL, nll), (AGREEMENT, agreement))
}
"""Each quality metric with the function that gives it at each position."""
