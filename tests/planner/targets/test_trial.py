"""What a fresh process makes of the models that it serves."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.targets.trial import read_window


class Fixed:
    """A model that gives every token the same probabilities."""

    def __init__(self, *probabilities: float) -> None:
        self._logits = np.log(np.array(probabilities, dtype=np.float32)) + 3

    def logits(self, tokens: NDArray[np.int_]) -> NDArray[np.float32]:
        return np.tile(self._logits, (*tokens.shape, 1))


def read(window: list[int], **models: Any) -> tuple[list[float], list[float]]:
    nll, kl = read_window(models, np.array(window))
    return nll.tolist(), kl.tolist()


def test_a_window_is_read_by_all_models_and_compared_with_the_first() -> None:
    dense, pruned = Fixed(0.5, 0.25, 0.25), Fixed(0.25, 0.25, 0.5)
    nll, kl = read([0, 0, 2, 0], dense=dense, pruned=pruned)
    # of the tokens 0, 2 and 0, for the first is predicted by nothing
    assert nll == pytest.approx([math.log(2) * 4 / 3, math.log(2) * 5 / 3], rel=1e-6)
    # 0.5 log 2 + 0.25 log 1 + 0.25 log 1/2, of every token alike
    assert kl == pytest.approx([0.0, 0.25 * math.log(2)], rel=1e-6)


def test_logits_of_any_size_are_finite() -> None:
    certain = Fixed(1.0, 1e-30)
    nll, kl = read([0, 1], dense=certain, pruned=Fixed(1e-30, 1.0))
    assert nll == pytest.approx([30 * math.log(10), 0.0], rel=1e-5)
    assert kl[1] == pytest.approx(30 * math.log(10), rel=1e-5)
