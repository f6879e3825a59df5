"""Share of positions at which the candidate's most probable token is the dense model's."""

from torch import Tensor

from evaluators.metric import Metric
from evaluators.quality.comparison import Comparison

AGREEMENT = Metric(
    name="agreement",
    unit="share of tokens",
    direction="maximise",
    source="top-1 agreement with the teacher: Stanton et al., 2021",
)


def agreement(compared: Comparison) -> Tensor:
    """Return 1 if the dense model's token is among the candidate's most probable, else 0."""
    return (compared.top_logit == 0).float()  # logits count from the highest
