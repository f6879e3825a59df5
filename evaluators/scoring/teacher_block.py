"""What the dense model predicts at some positions: all that candidates are compared with."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from evaluators.quality.comparison import Comparison, Digest, Teacher
from evaluators.quality.tally import Tally
from evaluators.scoring.ends import Head


class TeacherBlock:
    """The dense model's predictions at some positions, digested once for all candidates.

    Where logits are a product ``z = s (W h + b)``, the average of a candidate's logits over the
    dense model's distribution p is ``Σᵥ pᵥ zᵥ = s ((Σᵥ pᵥ wᵥ)·h + Σᵥ pᵥ bᵥ)``: the sums over the
    vocabulary are those of the positions, not of the candidate.

    That holds of logits as they are. In 16 bits each is rounded, in log Σ exp z too, and only
    where the average is over the same rounded ones do both errors cancel: there, and where logits
    are capped, it is taken tile by tile, beside the dense model's probabilities.

    Args:
        head: Of the dense model.
        hidden: What enters it, ``(positions, hidden)``.
        parts: Of the vocabulary, whose logits are computed at once.
    """

    def __init__(self, head: Head, hidden: Tensor, parts: Sequence[slice]) -> None:
        self._head, self._hidden, self._parts = head, hidden, parts
        tally, self._top = Tally(self._no_tokens), _Highest()
        for part in parts:
            logits = head.logits(hidden, part)
            self._top.add(part.start, logits)
            tally.add(part.start, logits)
        self._digest = tally.digest()
        formula = head.formula
        self._mean = formula.means(hidden) if formula and formula.is_plain else None
        """``Σ p w``, ``(positions, hidden)``, and ``Σ p b``, ``(positions,)``."""

    def compare(
        self, hidden: Sequence[Tensor], targets: Tensor, head: Head, *, with_gaps: bool
    ) -> list[Comparison]:
        """Compare candidates with the dense model; none depends on the company.

        Args:
            hidden: What enters the head in each candidate, ``(positions, hidden)``.
            targets: Next tokens of the text, ``(positions,)``.
            head: That all of them are read out with.
            with_gaps: Whether Σ |p − q| is asked for, which takes a second pass.
        """
        by_tiles = head.is_own or self._mean is None
        teacher = self._by_tiles if by_tiles else self._by_mean
        tallies = [Tally(torch.stack([targets, teacher.top])) for _ in hidden]
        for part in self._parts:
            probabilities = self._probabilities(part) if by_tiles else None
            for tally, states in zip(tallies, hidden, strict=True):
                tally.add(part.start, head.logits(states, part), probabilities)
        digests = [tally.digest() for tally in tallies]
        if not by_tiles:
            digests = [self._averaged(d, h) for d, h in zip(digests, hidden, strict=True)]
        gaps = self._gaps(hidden, digests, head) if with_gaps else [None for _ in hidden]
        logits = [t.logits(d.highest) for t, d in zip(tallies, digests, strict=True)]
        return [
            Comparison(
                **vars(digest),
                teacher=teacher,
                target_logit=target,
                top_logit=top,
                gap=gap,
                hidden=states,
            )
            for digest, (target, top), gap, states in zip(
                digests, logits, gaps, hidden, strict=True
            )
        ]

    @cached_property
    def _by_mean(self) -> Teacher:
        """What candidates are held to whose logits are averaged by the mean embedding."""
        return self._taught(self._averaged(self._digest, self._hidden))

    @cached_property
    def _by_tiles(self) -> Teacher:
        """The same for those whose logits are averaged tile by tile: rounded as theirs are."""
        tally = Tally(self._no_tokens)
        for part in self._parts:
            logits = self._head.logits(self._hidden, part)
            probabilities = self._digest.probabilities(logits.clone())
            tally.add(part.start, logits, probabilities)
        return self._taught(tally.digest())

    @property
    def _no_tokens(self) -> Tensor:
        return self._hidden.new_zeros(0, len(self._hidden), dtype=torch.long)

    def _taught(self, digest: Digest) -> Teacher:
        return Teacher(**vars(digest), top=self._top.tokens, hidden=self._hidden)

    def _averaged(self, digest: Digest, hidden: Tensor) -> Digest:
        """Average logits that the dense head reads out, over the dense model's distribution."""
        formula = self._head.formula
        assert formula is not None, "the head is a product"
        assert self._mean is not None, "and nothing rounds or caps it"
        mean, offset = self._mean
        average = (mean.double() * hidden.double()).sum(dim=-1) + offset.double()
        expected = formula.factor * average - digest.highest.double()
        return replace(digest, expected_logit=expected.float())

    def _probabilities(self, part: slice) -> Tensor:
        """Return the dense model's probabilities of a part of the vocabulary."""
        return self._digest.probabilities(self._head.logits(self._hidden, part))

    def _gaps(
        self, hidden: Sequence[Tensor], digests: Sequence[Digest], head: Head
    ) -> list[Tensor]:
        """Return Σ |p − q| of each candidate."""
        gaps = [torch.zeros_like(digest.highest) for digest in digests]
        for part in self._parts:
            theirs = self._probabilities(part)
            for gap, digest, states in zip(gaps, digests, hidden, strict=True):
                ours = digest.probabilities(head.logits(states, part))
                gap.add_(ours.sub_(theirs).abs_().sum(dim=-1))
        return gaps


class _Highest:
    """The most probable token, and the first of those that are alike."""

    def __init__(self) -> None:
        self._logits: Tensor | None = None
        self.tokens: Tensor

    def add(self, first: int, logits: Tensor) -> None:
        highest, place = logits.max(dim=-1)
        if self._logits is None:
            self._logits, self.tokens = highest, place
            return
        is_higher = highest > self._logits
        self._logits = torch.where(is_higher, highest, self._logits)
        self.tokens = torch.where(is_higher, first + place, self.tokens)
