"""Quality metrics, one a file; all are computed from the same pass."""

from collections.abc import Callable, Mapping
from importlib import import_module

from torch import Tensor

from evaluators.metric import METRICS, metric_names, searched_names
from evaluators.quality.comparison import Comparison

QUALITY: Mapping[str, Callable[[Comparison], Tensor]] = {
    name: getattr(import_module(f"{__name__}.{METRICS[name].file or name}"), name)
    for name in metric_names("quality")
}
"""The function that computes each quality metric of a language model by position.

It bears the metric's name, and is found by it.
"""

SEARCH_METRICS = searched_names()
"""Metrics of every candidate of a search: one pass over the vocabulary serves them all.

A front is re-scored by all of `QUALITY`.
"""
