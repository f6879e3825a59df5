"""Kullback–Leibler divergence from the dense model to the candidate."""

from torch import Tensor

from evaluators.quality.comparison import Comparison


def kl(compared: Comparison) -> Tensor:
    """Return Σ p (log p − log q) at each position, ``(positions,)``."""
    return compared.teacher.negative_entropy - compared.expected_log_probability
