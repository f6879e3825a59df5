"""Quality metrics, one a file; all are computed from the same pass."""

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
"""Each quality metric of a language model, and the function that computes it by position."""

SEARCH_METRICS = ("kl", "nll", "agreement")
"""Metrics of every candidate of a search: one pass over the vocabulary serves them all.

A front is re-scored by all of `QUALITY`.
"""
