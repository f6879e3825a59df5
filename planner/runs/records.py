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
"""Tokens that the front is re-scored on: a second draw of the search text, and held-out text."""
RESCORE_SPLITS: Mapping[RescoreSplit, str] = {"fresh": "fresh", "holdout": "held-out"}
"""The name of each in sentences."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundReply:
    """The answer that a searcher gets on one genome for one round only."""

    values: NDArray[np.float64]
    """``(values,)``: objectives on some of the text, or gradients level by level, site by site."""
    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SearchEffort:
    """What a search took since the run's beginning, over all its sessions."""

    plans: int
    tokens: int
    """Candidate tokens."""
    seconds: float
    """Of scoring and choosing, without preparing and re-scoring."""
    choosing_seconds: float
    """Of these, spent in the searcher."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One genome with everything that was measured of it."""

    genome: Genome
    plan_id: str
    round: int
    """The searcher's batch it was proposed in, from 0."""
    score: Score
    """On the search text, over the windows that the plan was scored on."""
    costs: Mapping[str, float]
    """In the metrics' own units: ``params``, ``size``, ``macs`` and ``kv``, which are exact, and
    ``latency`` and ``throughput`` if they are predicted."""
    fresh: Mapping[str, Measurement] = field(default_factory=dict)
    """Every quality metric on a second draw of the same text; empty until re-scored."""
    holdout: Mapping[str, Measurement] = field(default_factory=dict)
    """Every quality metric on held-out text; empty until re-scored."""

    @property
    def quality(self) -> Mapping[str, Measurement]:
        """Means of the score, with errors: ``kl``, ``nll``, ``agreement``."""
        return self.score.quality

    @property
    def values(self) -> dict[str, float]:
        """Quality on the search text and costs by name, as a budget reads them."""
        return {name: m.value for name, m in self.quality.items()} | dict(self.costs)

    def scored(self, score: Score) -> "Evaluation":
        """Return the same with another score."""
        return replace(self, score=score)
