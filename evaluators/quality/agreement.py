"""How often the candidate's most probable token is the dense model's."""

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
    """Give 1 where both prefer the same token and 0 elsewhere, ``(positions,)``."""
    return (compared.top == compared.teacher.top).float()
