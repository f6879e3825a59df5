"""Share of positions at which the candidate's most probable token is the dense model's."""

from torch import Tensor

from evaluators.quality.comparison import Comparison


def agreement(compared: Comparison) -> Tensor:
    """Return 1 if the dense model's token is among the candidate's most probable, else 0."""
    return (compared.top_logit == 0).float()  # logits count from the highest
