"""What the compensation `tuning` fits to: the dense model beside one that is pruned all over."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from evaluators.collectors.teacher_student import collect_tuning
from planner.preparation.lazy import Lazily
from search_spaces.progress import Progress
from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.compensation.sublayer_tuning import SubLayerTuning
from search_spaces.pruned_weights.types import PrunedWeights
from search_spaces.space.configuration import unit_counts
from search_spaces.space.sparsity import DENSE
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.model import ModelStructure

TUNING_STATISTICS: frozenset[StatisticName] = frozenset({"student_gram", "teacher_cross"})
STUDENT_KEEPS = 0.85
"""Of the units of each component of the model that tuning makes up for, rounded up: a little
pruned, as the plans are that a search is for."""


def tuning_statistics(
    structure: ModelStructure,
    orders: Sequence[NDArray[np.int_]],
    statistics: Sequence[Statistics],
    windows: Tensor,
    progress: Progress,
) -> Sequence[Statistics]:
    """Give statistics with those of tuning, measured when they are first asked for.

    Args:
        structure: The model, its units sorted.
        orders: For each component its units from the last to go to the first to go.
        statistics: Of the dense model, in its own order of units.
        windows: Token ids ``(windows, tokens)`` to measure on.
        progress: Told of progress.
    """
    kept = np.ceil(STUDENT_KEEPS * unit_counts(structure.components)).astype(np.int_)

    def level(position: int, noted: Statistics) -> PrunedWeights:
        layer = structure.components[position].layer
        known = [*statistics[:layer], {**statistics[layer], **noted}]
        builder = WeightBuilder(structure, known, orders, compensation=SubLayerTuning())
        (made,) = builder.build(position, [(int(kept[position]), DENSE)])
        return made

    def measure() -> Sequence[Statistics]:
        progress.stage("measuring a pruned model beside the dense one")
        found = collect_tuning(structure, orders, kept.tolist(), windows, levels=level)
        return [{**plain, **tuned} for plain, tuned in zip(statistics, found, strict=True)]

    return Lazily(measure)
