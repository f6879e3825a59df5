"""A candidate against the dense model at some positions: what the metrics share, once."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Teacher:
    """The dense model's predictions at some positions."""

    probabilities: Tensor
    """``(positions, vocabulary)``"""
    negative_entropy: Tensor
    """Σ p log p in nats, ``(positions,)``"""
    top: Tensor
    """Most probable token, ``(positions,)``"""
    hidden: Tensor
    """What enters the head, after the final norm, ``(positions, hidden)``"""

    @classmethod
    def of(cls, logits: Tensor, hidden: Tensor) -> "Teacher":
        """Digest logits ``(positions, vocabulary)``, which are overwritten, and their origin."""
        logits = logits.float()
        highest, top = logits.max(dim=-1, keepdim=True)
        shifted = logits.sub_(highest)
        probabilities = shifted.exp()
        total = probabilities.sum(dim=-1, keepdim=True)
        probabilities /= total
        return cls(
            probabilities=probabilities,
            # the same operations as in Comparison, so that the dense model is 0 from itself
            negative_entropy=dot(probabilities, shifted) - total.squeeze(1).log(),
            top=top.squeeze(1),
            hidden=hidden,
        )


@dataclass(frozen=True)
class Comparison:
    """A candidate's logits at some positions, with the dense model's predictions and the text."""

    teacher: Teacher
    targets: Tensor
    """The next token of the text, ``(positions,)``"""
    target_logit: Tensor
    """Logits count from each position's highest, ``(positions,)``"""
    expected_logit: Tensor
    """Σ p z: the candidate's logit, averaged over the teacher's distribution, ``(positions,)``"""
    exponentials: Tensor
    """exp z in the memory of the logits, ``(positions, vocabulary)``"""
    normaliser: Tensor
    """Σ exp z, ``(positions,)``"""
    top_logit: Tensor
    """The candidate's logit of the teacher's most probable token, ``(positions,)``"""
    hidden: Tensor
    """What enters the head, after the final norm, ``(positions, hidden)``"""

    @classmethod
    def of(cls, logits: Tensor, teacher: Teacher, targets: Tensor, hidden: Tensor) -> "Comparison":
        """Digest logits ``(positions, vocabulary)``, which are overwritten."""
        logits = logits.float()
        # amax and not max: finding the position too takes six times as long
        shifted = logits.sub_(logits.amax(dim=-1, keepdim=True))
        target_logit = shifted.gather(1, targets[:, None]).squeeze(1)
        top_logit = shifted.gather(1, teacher.top[:, None]).squeeze(1)
        expected_logit = dot(teacher.probabilities, shifted)
        exponentials = shifted.exp_()
        return cls(
            teacher=teacher,
            targets=targets,
            target_logit=target_logit,
            expected_logit=expected_logit,
            exponentials=exponentials,
            normaliser=exponentials.sum(dim=-1),
            top_logit=top_logit,
            hidden=hidden,
        )

    @property
    def log_normaliser(self) -> Tensor:
        """The logarithm of Σ exp z, ``(positions,)``."""
        return self.normaliser.log()

    def probabilities(self) -> Tensor:
        """Compute the candidate's distribution anew, ``(positions, vocabulary)``.

        As large as the logits, so only for metrics that need it.
        """
        return self.exponentials / self.normaliser[:, None]


def dot(left: Tensor, right: Tensor) -> Tensor:
    """Multiply and sum over the last axis, ``(rows,)`` of ``(rows, columns)``."""
    if left.device.type == "cpu":
        # row by row: vecdot holds all products in memory, and takes half as long again
        return torch.stack([torch.dot(a, b) for a, b in zip(left, right, strict=True)])
    product: Tensor = torch.linalg.vecdot(left, right)
    return product
