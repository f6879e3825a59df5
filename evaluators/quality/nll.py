"""Negative log-likelihood of the text; its exponential is the perplexity."""

from torch import Tensor

from evaluators.metric import Metric
from evaluators.quality.comparison import Comparison

NLL = Metric(
    name="nll",
    unit="nats/token",
    direction="minimise",
    source="Jelinek et al., 1977: perplexity is its exponential",
)


def nll(compared: Comparison) -> Tensor:
    """Give −log q of the token that follows at each position, ``(positions,)``."""
    return compared.log_normaliser - compared.target_logit
