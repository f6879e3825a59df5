"""Quality metrics, one a file; all come from the same pass."""

from collections.abc import Callable, Mapping

from torch import Tensor

from evaluators.metric import Metric
from evaluators.quality.acceptance import ACCEPTANCE, acceptance
from evaluators.quality.agreement import AGREEMENT, agreement
from evaluators.quality.comparison import Comparison
from evaluators.quality.cosine import COSINE, cosine
from evaluators.quality.kl import KL, kl
from evaluators.quality.nll import NLL, nll

QUALITY: Mapping[str, tuple[Metric, Callable[[Comparison], Tensor]]] = {
    metric.name: (metric, function)
    for metric, function in (
        (KL, kl),
        (NLL, nll),
        (AGREEMENT, agreement),
        (ACCEPTANCE, acceptance),
        (COSINE, cosine),
    )
}
"""Each quality metric of a language model with the function that gives it at each position."""

SEARCH_METRICS = ("kl", "nll", "agreement")
"""What every candidate of a search is measured by: one pass over the vocabulary serves them all.

A front is re-scored by all of `QUALITY`.
"""
