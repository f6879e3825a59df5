"""Proof that an export computes what was scored, before it is announced."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from planner.export.reference import Reference, Score
from search_spaces.errors import VerificationError


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The differences that a comparison found."""

    logit_gap: float
    """Largest difference from the scored candidate's logits."""
    cache_gap: float
    """Largest difference between logits with a cache and without."""
    allowed: float
    tokens: int
    written: int = 0
    """Tokens that were written as the candidate writes them, up to the first other one."""
    written_of: int = 0
    """Tokens that had to be."""

    @property
    def holds(self) -> bool:
        """Whether the differences are within what is allowed."""
        # one by one, for of NaN and a number `max` may be the number
        return (
            self.logit_gap <= self.allowed
            and self.cache_gap <= self.allowed
            and self.written >= self.written_of
        )

    def insist(self, where: str) -> Self:
        """Return it if it holds.

        Args:
            where: The runtime, for the message.

        Raises:
            VerificationError: If it does not.
        """
        if not self.holds:
            raise VerificationError(
                f"an export must compute what was scored within {self.allowed:.1e}, got a logit "
                f"gap of {self.logit_gap:.1e} and a cache gap of {self.cache_gap:.1e} in {where}, "
                f"and {self.written} of {self.written_of} tokens written alike; please report "
                "this model"
            )
        return self


def proof_of(
    reference: Reference,
    whole: NDArray[np.float32],
    stepped: NDArray[np.float32],
    written: Sequence[int],
    *,
    follow: Score,
    tolerance: float,
) -> Proof:
    """Compare what an export computes with what was scored.

    Args:
        reference: What was scored.
        whole: The export's logits ``(windows, tokens, vocabulary)``.
        stepped: Those of its last tokens, with a cache ``(windows, last tokens, vocabulary)``.
        written: The tokens that it writes after the reference's prompt.
        follow: The logits of what was cut, on any tokens.
        tolerance: Largest difference, in standard deviations of the logits.
    """
    allowed = tolerance * reference.spread
    return Proof(
        logit_gap=float(np.abs(whole - reference.logits.numpy()).max()),
        cache_gap=float(np.abs(stepped - whole[:, -stepped.shape[1] :]).max()),
        allowed=allowed,
        tokens=reference.tokens.numel(),
        written=_written_alike(reference, written, follow, 2 * allowed),
        written_of=reference.room,
    )


def _written_alike(
    reference: Reference, written: Sequence[int], follow: Score, allowed: float
) -> int:
    """Return how many tokens, up to the first other one, are the most probable here too.

    Where two are as probable as rounding can tell, either may be written.
    """
    if not written:
        return 0
    start = reference.prompt.shape[1]
    logits = follow(torch.cat([reference.prompt, torch.tensor([written])], dim=1))[0]
    logits = logits[start - 1 : -1]  # (written, vocabulary), each before its token is known
    chosen = logits.gather(-1, torch.tensor(written)[:, None])[:, 0]
    is_other = logits.amax(dim=-1) - chosen > allowed
    return int(is_other.int().argmax()) if bool(is_other.any()) else len(written)
