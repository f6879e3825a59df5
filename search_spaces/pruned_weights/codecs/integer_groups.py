"""Integers in groups with a scale each, as compressed-tensors packs them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces.pruned_weights.codecs.bit_planes import LAYOUTS
from search_spaces.space.number_format import NumberFormat

_SHRINKS = 40
"""Scales that are tried where columns count differently, evenly spaced."""
_LEAST_SHRINK = 0.2
"""The smallest of them, as a share of the usual one: an outlier may count for nothing."""


@dataclass(frozen=True)
class IntegerGroups:
    """The codec of symmetric integers: the bytes of a group's integers, then its bfloat16 scale.

    The integer ``q`` of a weight runs from ``-m - 1`` to ``m``, is stored as ``q + m + 1``, and
    stands for ``s q``. By rounding to the nearest ``s`` is ``max |w| / m``; where an error counts
    differently in different columns, ``s`` is the one of several smaller ones, each fitted to its
    integers by least squares, with the least weighted error.

    References:
        Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam & Kalenichenko, 2018, "Quantization and
        Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (equation 1,
        with zero point 0).
    """

    format: NumberFormat

    @property
    def highest(self) -> int:
        return LAYOUTS[self.format.name].highest

    def check_installed(self, *, weighted: bool) -> None:
        """Go on: it takes nothing but torch."""

    def encode(self, weight: Tensor, importance: Tensor | None = None) -> Tensor:
        groups = weight.reshape(len(weight), -1, self.format.block)  # (rows, groups, columns)
        usual = groups.abs().amax(dim=-1, keepdim=True) / self._most
        scales = usual.bfloat16()
        if importance is not None:
            scales = self._searched(
                groups, usual, importance.reshape(*importance.shape[:-1], -1, groups.shape[2])
            )
        integers = self._integers(groups, scales) + self._most + 1
        data = torch.zeros((*groups.shape[:2], self.format.block_bytes), dtype=torch.uint8)
        data[..., -scales.element_size() :] = scales.view(torch.uint8)
        return self.with_integers(data.flatten(1), integers.flatten(1))

    def decode(self, data: Tensor) -> Tensor:
        packed, scales = packed_and_scales(data, self.format)
        bits = self.highest.bit_length()
        shifts = torch.arange(0, 32, bits, dtype=torch.int32)
        integers = (packed[..., None] >> shifts) & self.highest  # (rows, words, in a word)
        values = integers.reshape(*scales.shape, -1) - self._most - 1
        return (values * scales.float()[..., None]).flatten(1)

    def with_integers(self, data: Tensor, integers: Tensor) -> Tensor:
        return LAYOUTS[self.format.name].with_integers(data, integers, self.format)

    @property
    def _most(self) -> int:
        """The largest integer that a weight stands for a multiple of its scale by."""
        return self.highest // 2

    def _integers(self, groups: Tensor, scales: Tensor) -> Tensor:
        steps = (groups / scales.float()).round().clamp(-self._most - 1, self._most)
        return torch.where(scales > 0, steps, 0.0)  # a group of zeros has no scale

    def _searched(self, groups: Tensor, usual: Tensor, importance: Tensor) -> Tensor:
        """Return the scales of the least weighted error, ``(rows, groups, 1)``."""
        best = usual.bfloat16()
        least = torch.full_like(usual, torch.inf)
        for shrink in torch.linspace(1.0, _LEAST_SHRINK, _SHRINKS).tolist():
            steps = self._integers(groups, shrink * usual)
            weighted = importance * steps
            fitted = (weighted * groups).sum(dim=-1, keepdim=True)
            fitted = fitted / (weighted * steps).sum(dim=-1, keepdim=True)
            scales = fitted.nan_to_num(0.0).bfloat16()
            errors = groups - scales.float() * self._integers(groups, scales)
            error = (importance * errors.square()).sum(dim=-1, keepdim=True)
            is_better = error < least
            least, best = error.where(is_better, least), scales.where(is_better, best)
        return best


def packed_and_scales(data: Tensor, number_format: NumberFormat) -> tuple[Tensor, Tensor]:
    """Return the two tensors that compressed-tensors stores for the bytes of a matrix.

    Args:
        data: ``(rows, bytes a row)`` in uint8.
        number_format: Of groups of integers.

    Returns:
        ``weight_packed``, ``(rows, columns · bits / 32)`` in int32, and ``weight_scale``,
        ``(rows, groups)`` in bfloat16.
    """
    groups = data.reshape(*data.shape[:-1], -1, number_format.block_bytes)
    size = torch.bfloat16.itemsize
    packed = groups[..., :-size].contiguous().view(torch.int32).flatten(1)
    return packed, groups[..., -size:].contiguous().view(torch.bfloat16).flatten(1)
