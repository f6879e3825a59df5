"""How far the candidate's last hidden states point the dense model's way."""

from torch import Tensor
from torch.nn.functional import cosine_similarity

from evaluators.metric import Metric
from evaluators.quality.comparison import Comparison

COSINE = Metric(
    name="cosine",
    unit="cosine",
    direction="maximise",
    source="of the last hidden states, as a distillation loss: DistilBERT (Sanh et al., 2019)",
)


def cosine(compared: Comparison) -> Tensor:
    """Give the cosine of what enters the two heads at each position, ``(positions,)``.

    In float32 whatever the model's format; the dense model is 1 from itself within rounding.
    """
    return cosine_similarity(compared.hidden.float(), compared.teacher.hidden.float(), dim=-1)
