"""One pass over the vocabulary, tile by tile: what logits at some positions come to."""

import torch
from torch import Tensor

from evaluators.quality.comparison import Digest


class Tally:
    """Sums over the vocabulary of one model's logits, and those of single tokens.

    Args:
        tokens: Whose logits are wanted, ``(wanted, positions)``.
    """

    def __init__(self, tokens: Tensor) -> None:
        self._tokens = tokens
        self._logits = tokens.new_zeros(tokens.shape, dtype=torch.float32)
        self._highs: list[Tensor] = []
        self._sums: list[Tensor] = []
        self._expected = tokens.new_zeros(tokens.shape[1], dtype=torch.float64)
        """Σ p z, from the highest logit of the first tile."""

    def add(self, first: int, logits: Tensor, probabilities: Tensor | None = None) -> None:
        """Add a tile.

        Args:
            first: Its first token.
            logits: ``(positions, tile)`` in float32, which are overwritten.
            probabilities: Of the dense model, to average the logits over, ``(positions, tile)``.
        """
        places = self._tokens - first
        is_here = (places >= 0) & (places < logits.shape[1])
        here = logits.gather(1, places.clamp(0, logits.shape[1] - 1).T).T
        self._logits = torch.where(is_here, here, self._logits)
        high = logits.amax(dim=-1)
        # a tile of tokens that are ruled out, at -inf, adds nothing
        shift = high.clamp(min=torch.finfo(high.dtype).min)
        logits.sub_(shift[:, None])
        self._highs.append(high)
        if probabilities is not None:
            beside = (high - self._highs[0]).double() * probabilities.sum(dim=-1)
            self._expected += torch.linalg.vecdot(probabilities, logits) + beside
        self._sums.append(logits.exp_().sum(dim=-1))

    def digest(self) -> Digest:
        """Return what the logits come to; without probabilities, their average means nothing."""
        highs = torch.stack(self._highs)
        highest = highs.amax(dim=0)
        normaliser = (torch.stack(self._sums) * (highs - highest).exp()).sum(dim=0)
        return Digest(
            highest=highest,
            log_normaliser=normaliser.log(),
            expected_logit=(self._expected - (highest - self._highs[0]).double()).float(),
        )

    def logits(self, highest: Tensor) -> Tensor:
        """Return the logits of the wanted tokens from the highest, ``(wanted, positions)``."""
        return self._logits - highest
