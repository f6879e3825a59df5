"""How often the dense model would accept a token that the candidate drafts for it."""

from torch import Tensor

from evaluators.metric import Metric
from evaluators.quality.comparison import Comparison

ACCEPTANCE = Metric(
    name="acceptance",
    unit="share of tokens",
    direction="maximise",
    source="expected acceptance of speculative decoding: Leviathan et al., 2023, corollary 3.6",
)


def acceptance(compared: Comparison) -> Tensor:
    """Give Σ min(p, q) at each position, ``(positions,)``; exactly 1 for the dense model itself.

    Computed as 1 − ½ Σ |p − q|, which is the same where both sum to 1 and has no rounding where
    they are equal.
    """
    gap = compared.probabilities().sub_(compared.teacher.probabilities).abs_().sum(dim=-1)
    return (1 - gap / 2).clamp(min=0)  # distributions apart differ by 2, give or take rounding
