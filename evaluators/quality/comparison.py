"""A candidate against the dense model at some positions: what the metrics share, once."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Digest:
    """What one model's logits at some positions come to, ``(positions,)`` each.

    Logits count from each position's highest.
    """

    highest: Tensor
    """Itself, from zero."""
    log_normaliser: Tensor
    """log Σ exp z"""
    expected_logit: Tensor
    """Σ p z: the logit, averaged over the dense model's distribution."""

    @property
    def expected_log_probability(self) -> Tensor:
        """Σ p log q, where q is the model's own distribution."""
        return self.expected_logit - self.log_normaliser

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities of tokens, in the memory of their logits.

        Args:
            logits: ``(positions, tokens)`` in float32, from zero.
        """
        return logits.sub_(self.highest[:, None]).sub_(self.log_normaliser[:, None]).exp_()


@dataclass(frozen=True, kw_only=True)
class Teacher(Digest):
    """The dense model's predictions at some positions."""

    top: Tensor
    """Most probable token."""
    hidden: Tensor
    """What enters the head, after the final norm, ``(positions, hidden)``"""

    @property
    def negative_entropy(self) -> Tensor:
        """Σ p log p in nats."""
        return self.expected_log_probability


@dataclass(frozen=True, kw_only=True)
class Comparison(Digest):
    """A candidate's logits at some positions, with the dense model's predictions and the text."""

    teacher: Teacher
    target_logit: Tensor
    """Of the next token of the text."""
    top_logit: Tensor
    """Of the teacher's most probable token."""
    gap: Tensor | None
    """Σ |p − q|; None: no metric that is asked for needs it."""
    hidden: Tensor
    """What enters the head, after the final norm, ``(positions, hidden)``"""
