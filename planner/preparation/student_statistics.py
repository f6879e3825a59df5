"""What the compensation `tuning` fits to: the dense model and a copy pruned in every layer."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from evaluators.collectors.teacher_student import collect_tuning
from planner.preparation.lazy_sequence import LazySequence
from search_spaces.progress import Progress
from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.compensation import make_compensation
from search_spaces.pruned_weights.types import PrunedWeights
from search_spaces.space.configuration import unit_counts
from search_spaces.space.sparsity import DENSE
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.model import SortedModel

TUNING_STATISTICS: frozenset[StatisticName] = frozenset({"student_gram", "teacher_cross"})
STUDENT_KEEPS = 0.85
"""Share of units that each component of the pruned model keeps, rounded up: moderately pruned, as
the plans are that a search is for."""


def tuning_statistics(
    structure: SortedModel,
    orders: Sequence[NDArray[np.int_]],
    statistics: Sequence[Statistics],
    windows: Tensor,
    progress: Progress,
) -> Sequence[Statistics]:
    """Return the statistics with those of tuning added, measured when they are first read.

    Args:
        structure: The model, its units sorted.
        orders: Units of each component, most important first.
        statistics: Of the dense model, in its own order of units.
        windows: Token ids ``(windows, tokens)`` to measure on.
        progress: Receives stages.
    """
    kept_counts = np.ceil(STUDENT_KEEPS * unit_counts(structure.components)).astype(np.int_)

    def tuned_weights(position: int, student_statistics: Statistics) -> PrunedWeights:
        layer = structure.components[position].layer
        so_far = [*statistics[:layer], {**statistics[layer], **student_statistics}]
        builder = WeightBuilder(
            structure, so_far, orders, compensation=make_compensation("tuning")
        )
        (weights,) = builder.build(position, [(int(kept_counts[position]), DENSE)])
        return weights

    def measure() -> Sequence[Statistics]:
        progress.stage("measuring a pruned model next to the dense one")
        tuning = collect_tuning(
            structure, orders, kept_counts.tolist(), windows, student_weights=tuned_weights
        )
        return [{**dense, **student} for dense, student in zip(statistics, tuning, strict=True)]

    return LazySequence(measure)
