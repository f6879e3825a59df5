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
    """Return −log q of the next token at each position, ``(positions,)``."""
    return compared.log_normaliser - compared.target_logit
