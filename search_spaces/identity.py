"""Telling two models apart by their weights."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from search_spaces.plan import ModelIdentity

SAMPLED_VALUES = 64
"""Values hashed of each tensor: enough to notice a fine-tuned sibling, cheap for any size."""


def identify(
    model: PreTrainedModel, weights: Iterable[tuple[str, Tensor]] | None = None
) -> ModelIdentity:
    """Give a model's identity; it must not be permuted or cast yet.

    Two dtypes of the same weights count as one model as long as the weights survive the cast.

    Args:
        model: The model.
        weights: By name and in the order of the names, where the model does not hold them.
    """
    digest = hashlib.sha256()
    params = 0
    for name, weight in sorted(model.named_parameters()) if weights is None else weights:
        flat = weight.detach().reshape(-1)
        steps = torch.arange(SAMPLED_VALUES, device=flat.device)
        picks = steps * (len(flat) - 1) // SAMPLED_VALUES
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        digest.update(flat[picks].to("cpu", torch.float32).numpy().tobytes())
        params += weight.numel()
    return ModelIdentity(
        architecture=type(model).__name__, fingerprint=digest.hexdigest()[:16], params=params
    )
