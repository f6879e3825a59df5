"""Cosine of the candidate's last hidden states to the dense model's."""

import torch
from torch import Tensor

from evaluators.quality.comparison import Comparison


def cosine(compared: Comparison) -> Tensor:
    """Return the cosine of the inputs of the two heads at each position, ``(positions,)``.

    In float32 whatever the model's dtype. Exactly 1 for the dense model itself: the root of a
    square is exact. 0 if a state is zero.
    """
    dot = torch.linalg.vecdot
    student, teacher = compared.hidden.float(), compared.teacher.hidden.float()
    lengths = (dot(student, student) * dot(teacher, teacher)).sqrt()
    cosine: Tensor = dot(student, teacher) / lengths.clamp(min=torch.finfo(torch.float32).tiny)
    return cosine
