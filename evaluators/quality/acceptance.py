"""Share of tokens drafted by the candidate that the dense model would accept."""

from torch import Tensor

from evaluators.quality.comparison import Comparison


def acceptance(compared: Comparison) -> Tensor:
    """Return Σ min(p, q) at each position, ``(positions,)``; exactly 1 for the dense model itself.

    Computed as 1 − ½ Σ |p − q|, which is the same, for both sum to 1, and has no rounding error if
    they are equal.
    """
    assert compared.gap is not None, "it was asked for"
    return (1 - compared.gap / 2).clamp(
        min=0
    )  # disjoint distributions differ by 2, up to rounding
