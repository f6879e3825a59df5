"""The head of a model as a formula: a matrix, and what becomes of each product."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel

_PROBES = 8
_SUMMED = 512
"""Tokens of the vocabulary in a sum that no kernel shares out: of 1,024 MKL shares out some."""
_HIGHEST = 60.0
"""Logit that the probes reach, so that a cap shows."""
_LARGEST_GAP = 2**-5
"""Relative to the highest: some roundings in bfloat16, far less than another formula is off."""


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """Logits ``z = s (W h + b)``, or ``c tanh(z / c)`` where they are capped.

    Unlike the model's own forward it can be asked for some tokens of the vocabulary alone.
    """

    weight: Tensor
    """``W``, ``(vocabulary, hidden)``"""
    bias: Tensor | None
    """``b``, ``(vocabulary,)``"""
    factor: float
    """``s``"""
    cap: float | None
    """``c``"""

    def logits(self, hidden: Tensor, part: slice) -> Tensor:
        """Return the logits of a part of the vocabulary.

        Args:
            hidden: Final hidden states ``(rows, hidden)``.
            part: Of the vocabulary.

        Returns:
            ``(rows, part)`` in float32, in memory of their own.
        """
        bias = None if self.bias is None else self.bias[part]
        logits = functional.linear(hidden, self.weight[part], bias).float()
        if self.factor != 1.0:
            logits *= self.factor
        if self.cap is not None:
            logits = logits.div_(self.cap).tanh_().mul_(self.cap)
        return logits

    @property
    def is_exact(self) -> bool:
        """Whether nothing rounds logits to 16 bits."""
        return self.weight.element_size() >= 4

    @property
    def is_plain(self) -> bool:
        """Whether logits are products that nothing rounds to 16 bits, and nothing caps."""
        return self.cap is None and self.is_exact

    def means(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Average the rows of a plain head over the distributions that it reads out.

        One pass over the vocabulary: what was summed is scaled anew when a higher logit is met.

        Args:
            hidden: Final hidden states ``(rows, hidden)``.

        Returns:
            ``Σ p w``, ``(rows, hidden)``, and ``Σ p b``, ``(rows,)``.

        References:
            Milakov & Gimelshein, 2018, arXiv 1805.02867 (the normaliser of softmax online).
        """
        assert self.is_plain, "else averages are rounded, or not of what is read out"
        sums = torch.zeros_like(hidden)
        total, offset = torch.zeros(2, len(sums), device=sums.device)
        highest = torch.full_like(total, torch.finfo(total.dtype).min)
        for start in range(0, len(self.weight), 2 * _SUMMED):
            part = slice(start, start + 2 * _SUMMED)
            shares = self.logits(hidden, part)
            before, highest = highest, torch.maximum(highest, shares.amax(dim=1))
            fading = (before - highest).exp_()
            shares.sub_(highest[:, None]).exp_()
            total = total * fading + shares.sum(dim=1)
            self._add_products_(sums.mul_(fading[:, None]), shares, part)
            if self.bias is not None:
                offset = offset * fading + shares @ self.bias[part].to(shares)
        return sums / total[:, None], offset / total

    def by_hidden(self, by_logits: Tensor, logits: Tensor) -> Tensor:
        """Return the gradient by hidden states, ``(rows, hidden)``, of what depends on logits.

        Args:
            by_logits: The gradient by logits ``(rows, vocabulary)``.
            logits: These.
        """
        if self.cap is not None:
            by_logits = by_logits * (1.0 - (logits / self.cap).square())
        total = self.weight.new_zeros(len(logits), self.weight.shape[1])
        self._add_products_(total, by_logits, slice(0, len(self.weight)))
        return self.factor * total

    def _add_products_(self, sums: Tensor, factors: Tensor, part: slice) -> None:
        """Add the rows of a part of the vocabulary, each with its factor.

        The sum over the vocabulary is made of short ones: kernels share a long one among threads,
        and its last bits depend on how many there are.
        """
        weight = torch.split(self.weight[part], _SUMMED)
        for some, rows in zip(torch.split(factors, _SUMMED, dim=1), weight, strict=True):
            sums.addmm_(some.to(rows), rows)


@torch.no_grad()
def linear_head(model: PreTrainedModel, logits: Callable[[Tensor], Tensor]) -> LinearHead | None:
    """Find the formula of a model's head among those that are known.

    Args:
        model: The model.
        logits: Returns logits ``(rows, vocabulary)`` of hidden states ``(rows, hidden)``, as the
            model computes them.

    Returns:
        None: it is none of these, or its weights are not at hand.
    """
    module: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or weight.is_meta:
        return None
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(_PROBES, weight.shape[1], generator=generator).to(weight)
    reached = functional.linear(probes, weight).float().abs().amax()
    config, bias = model.config.get_text_config(), getattr(module, "bias", None)
    for factor, cap in product(_factors(config), _caps(config)):
        rows = probes * (_HIGHEST / (abs(factor) * reached)).to(probes)
        head = LinearHead(weight=weight, bias=bias, factor=factor, cap=cap)
        expected = logits(rows).float()
        if expected.shape[1] != len(weight):
            return None
        gap = (head.logits(rows, slice(None)) - expected).abs().amax()
        if gap <= _LARGEST_GAP * expected.abs().amax():
            return head
    return None


def _factors(config: PretrainedConfig) -> Iterator[float]:
    """Yield by what a model may multiply its logits: by nothing, or a number of its config."""
    yield 1.0
    for name, value in config.to_dict().items():
        is_number = isinstance(value, float | int) and not isinstance(value, bool)
        if ("logit" in name or "head" in name) and is_number and value:
            yield float(value)
            yield 1.0 / value


def _caps(config: PretrainedConfig) -> list[float | None]:
    cap = getattr(config, "final_logit_softcapping", None)
    return [None] if cap is None else [float(cap), None]
