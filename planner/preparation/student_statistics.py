"""What the compensation `tuning` fits to: the dense model and a copy pruned in every layer."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from evaluators.collectors.teacher_student import collect_tuning
from search_spaces.progress import Progress
from search_spaces.pruned_weights.compensation import make_compensation
from search_spaces.pruned_weights.projection_builder import ProjectionBuilder
from search_spaces.pruned_weights.types import PrunedWeights
from search_spaces.space.block_options import DENSE_OPTIONS
from search_spaces.space.configuration import unit_counts
from search_spaces.space.sorted_model import SortedModel
from search_spaces.statistics import LayerStatistics, StatisticName, Statistics

TUNING_STATISTICS: frozenset[StatisticName] = frozenset({"student_gram", "teacher_cross"})
STUDENT_KEEPS = 0.85
"""Share of units that each component of the pruned model keeps, rounded up: moderately pruned, as
the plans are that a search is for."""


def tuning_statistics(
    sorted_model: SortedModel,
    statistics: LayerStatistics,
    windows: Tensor,
    progress: Progress,
) -> LayerStatistics:
    """Return the statistics with those of tuning added, measured when they are first asked for.

    Args:
        sorted_model: The model.
        statistics: Of the dense model, in its own order of units.
        windows: Token ids ``(windows, tokens)`` to measure on.
        progress: Receives stages.
    """
    components = sorted_model.structure.components
    kept_counts = np.ceil(STUDENT_KEEPS * unit_counts(components)).astype(np.int_)

    def tuned_weights(position: int, student_statistics: Statistics) -> PrunedWeights:
        layer, dense = components[position].layer, statistics.of_all()
        so_far = [*dense[:layer], {**dense[layer], **student_statistics}]
        builder = ProjectionBuilder(
            sorted_model,
            LayerStatistics.measured(so_far),
            compensation=make_compensation("tuning"),
        )
        (weights,) = builder.build(position, [(int(kept_counts[position]), DENSE_OPTIONS)])
        return weights

    def measure() -> Sequence[Statistics]:
        dense = statistics.of_all()  # before the model is in use
        progress.stage("measuring a pruned model next to the dense one")
        tuning = collect_tuning(
            sorted_model, kept_counts.tolist(), windows, student_weights=tuned_weights
        )
        return [{**own, **student} for own, student in zip(dense, tuning, strict=True)]

    return LayerStatistics(measure)
