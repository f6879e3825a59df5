"""Text that gradients are taken on, with the dense model's side of it."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from evaluators.scoring.ends import Head
from evaluators.scoring.likelihood import by_final, gradient_by_final
from search_spaces.structure.backbone import Backbone


@dataclass(frozen=True)
class GradientText:
    """Some windows, as many as all intermediate activations of a pass can be held of."""

    backbone: Backbone
    """The dense model."""
    tokens: Tensor
    """Token ids ``(windows, tokens)``."""
    final: Tensor
    """The dense model's final hidden states ``(windows, tokens, hidden)``."""

    @property
    def positions(self) -> int:
        """How many have a next token."""
        return self.tokens.numel() - len(self.tokens)

    def kl_by_final(self, head: Head, final: Tensor) -> Tensor:
        """Differentiate a candidate's KL to the dense model, summed over positions.

        Where both read out by one product ``z = s (W h + b)`` that nothing rounds, the gradient is
        ``s (Σ q w − Σ p w)``, and only the candidate's average is new.

        Args:
            head: Of the candidate.
            final: Its final hidden states ``(windows, tokens, hidden)``.

        Returns:
            By these, ``(windows, tokens, hidden)``; zeros at each window's last token.
        """
        final, formula = final.detach(), self.backbone.linear_head
        if formula is None or not formula.is_plain or head.is_own:
            return gradient_by_final(head, final, self._cross_entropy)
        mean = formula.means(final[:, :-1].flatten(0, 1))[0]
        return by_final(formula.factor * (mean - self._mean), final)

    @property
    def _rows(self) -> Tensor:
        return self.final[:, :-1].flatten(0, 1)

    @cached_property
    def _mean(self) -> Tensor:
        """``Σ p w`` of the dense model, ``(positions, hidden)``."""
        formula = self.backbone.linear_head
        assert formula is not None, "the head is a product"
        return formula.means(self._rows)[0]

    def _cross_entropy(self, logits: Tensor, part: slice) -> Tensor:
        """Return KL but for the dense model's entropy, which does not depend on the candidate."""
        with torch.no_grad():
            probabilities = self.backbone.logits(self._rows[part]).float().softmax(dim=-1)
        return -(probabilities * log_softmax(logits, dim=-1)).sum()
