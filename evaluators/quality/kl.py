"""Kullback–Leibler divergence from the dense model to the candidate."""

from torch import Tensor

from evaluators.metric import Metric
from evaluators.quality.comparison import Comparison

KL = Metric(
    name="kl",
    unit="nats/token",
    direction="minimise",
    source="Kullback & Leibler, 1951; as a pruning objective: EvoPress (Sieberling et al., 2024)",
    lowest=0.0,  # Gibbs' inequality
)


def kl(compared: Comparison) -> Tensor:
    """Return Σ p (log p − log q) at each position, ``(positions,)``."""
    expected_log_q = compared.expected_logit - compared.log_normaliser
    return compared.teacher.negative_entropy - expected_log_q
