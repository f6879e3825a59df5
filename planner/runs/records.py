"""One genome with everything that was measured of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import Measurement
from evaluators.scoring.score import Score
from search_spaces.space.space import Genome

RescoreSplit = Literal["fresh", "holdout"]
"""Tokens that the front is re-scored on: a second draw of the calibration text, and other text."""
RESCORE_SPLITS: Mapping[RescoreSplit, str] = {"fresh": "fresh", "holdout": "hold-out"}
"""Each with its name in sentences."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reply:
    """What a searcher is told of one genome for one round only."""

    values: NDArray[np.float64]
    """``(values,)``: objectives on some of the text, or slopes level by level, site by site."""
    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a search took, from the run's beginning and through all its sittings."""

    plans: int
    tokens: int
    """Candidate tokens."""
    seconds: float
    """Of scoring and choosing; preparing and re-scoring not included."""
    choosing_seconds: float
    """Of these, in the searcher."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One genome with everything that was measured of it."""

    genome: Genome
    plan_id: str
    round: int
    """The searcher's batch it was proposed in, from 0."""
    score: Score
    """On the calibration split, which the search chose by, over the windows that it came to."""
    costs: Mapping[str, float]
    """In the metrics' own units: ``params``, ``size``, ``macs`` and ``kv``, which are exact, and
    ``latency`` and ``throughput`` where they are predicted."""
    fresh: Mapping[str, Measurement] = field(default_factory=dict)
    """Every quality metric on a second draw of the same text; empty until it is re-scored."""
    holdout: Mapping[str, Measurement] = field(default_factory=dict)
    """Every quality metric on the hold-out split; empty until it is re-scored."""

    @property
    def quality(self) -> Mapping[str, Measurement]:
        """What the score estimates: ``kl``, ``nll``, ``agreement``."""
        return self.score.quality

    @property
    def values(self) -> dict[str, float]:
        """Calibration quality and costs by name, as a budget reads them."""
        return {name: m.value for name, m in self.quality.items()} | dict(self.costs)

    def scored(self, score: Score) -> "Evaluation":
        """Give the same with another score."""
        return replace(self, score=score)
