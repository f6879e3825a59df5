"""What a model got in a task, whoever asked it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class TaskScores:
    """What a model got in one task."""

    samples: list[dict[str, Any]]
    """As lm-evaluation-harness logs them, of the task's first filter."""
    values: dict[str, NDArray[np.float64]]
    """Of each metric that is one number a sample, ``(samples,)``."""
    metrics: dict[str, float]
    """All that the harness gives for the whole task, as ``metric,filter``."""
    higher_is_better: dict[str, bool]
    num_fewshot: int
    version: str
