"""Telling two models apart by their weights."""

import hashlib

import torch
from transformers import PreTrainedModel

from search_spaces.plan import ModelIdentity

SAMPLED_VALUES = 64
"""Values hashed of each tensor: enough to notice a fine-tuned sibling, cheap for any size."""


def identify(model: PreTrainedModel) -> ModelIdentity:
    """Give a model's identity; it must not be permuted or cast yet.

    Two dtypes of the same weights count as one model as long as the weights survive the cast.
    """
    digest = hashlib.sha256()
    params = 0
    for name, weight in sorted(model.named_parameters()):
        flat = weight.detach().reshape(-1)
        steps = torch.arange(SAMPLED_VALUES, device=flat.device)
        picks = steps * (len(flat) - 1) // SAMPLED_VALUES
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        digest.update(flat[picks].to("cpu", torch.float32).numpy().tobytes())
        params += weight.numel()
    return ModelIdentity(
        architecture=type(model).__name__, fingerprint=digest.hexdigest()[:16], params=params
    )
