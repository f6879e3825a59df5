"""Tiny models that several tests score, candidates of them, and their scores."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from evaluators.scoring.score import Score
from search_spaces.structure.model import ModelStructure
from tests.models import tiny

llama, opt = cache(tiny.llama), cache(tiny.opt)


def candidates(structure: ModelStructure, count: int) -> NDArray[np.int_]:
    return tiny.random_counts(structure, count, np.random.default_rng(7))


def values(score: Score) -> list[float]:
    return [measured.value for measured in score.quality.values()]
