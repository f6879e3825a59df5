"""Rounding matrices to a number format: symmetric, a scale for each output, to the nearest."""

import torch
from torch import Tensor

from search_spaces.space.number_format import NumberFormat


def rounded_to_nearest(
    matrices: Tensor, number_format: NumberFormat, scale_dtype: torch.dtype
) -> Tensor:
    """Return the values that matrices have once they are stored in a number format.

    With ``m`` the largest integer, the scale of a row is ``s = max_j |W_ij| / m``, rounded to the
    dtype it is stored in, and a weight becomes ``s · clamp(round(W_ij / s), −m, m)``.

    >>> from search_spaces.space.number_format import INT8
    >>> weight = torch.tensor([[127.0, -2.5, 0.4], [0.0, 0.0, 0.0]])
    >>> rounded_to_nearest(weight, INT8, torch.float32).tolist()  # ties to even
    [[127.0, -2.0, 0.0], [0.0, 0.0, 0.0]]

    Args:
        matrices: ``(..., rows, columns)`` in float32.
        number_format: Integers of some bits.
        scale_dtype: In which scales are stored.

    Returns:
        Likewise in float32, dequantised.

    References:
        Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam & Kalenichenko, 2018, "Quantization and
        Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (equation 1,
        with zero point 0); a scale for each output channel as in Krishnamoorthi, 2018,
        "Quantizing deep convolutional networks for efficient inference" (section 3.1).
    """
    if not matrices.numel():
        return matrices
    most = number_format.most
    scale = (matrices.abs().amax(dim=-1, keepdim=True) / most).to(scale_dtype).float()
    steps = (matrices / scale).round().clamp(-most, most)
    return torch.where(scale > 0, steps * scale, 0.0)  # a row of zeros has no scale
