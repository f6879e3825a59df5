"""Share of tokens drafted by the candidate that the dense model would accept."""

from torch import Tensor

from evaluators.quality.comparison import Comparison


def acceptance(compared: Comparison) -> Tensor:
    """Return Σ min(p, q) at each position, ``(positions,)``; exactly 1 for the dense model itself.

    Computed as 1 − ½ Σ |p − q|, which is the same, for both sum to 1, and has no rounding error if
    they are equal.
    """
    gap = compared.probabilities().sub_(compared.teacher.probabilities).abs_().sum(dim=-1)
    return (1 - gap / 2).clamp(min=0)  # disjoint distributions differ by 2, up to rounding
