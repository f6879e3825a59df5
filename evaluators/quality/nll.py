"""Negative log-likelihood of the text; its exponential is the perplexity."""

from torch import Tensor

from evaluators.quality.comparison import Comparison


def nll(compared: Comparison) -> Tensor:
    """Return −log q of the next token at each position, ``(positions,)``."""
    return compared.log_normaliser - compared.target_logit
