"""Fingerprints that tell models apart by their weights."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from search_spaces.models.identity import ModelIdentity

SAMPLED_VALUES = 64
"""Values hashed of each tensor: enough to notice a fine-tuned sibling, cheap for any size."""


def identify(
    model: PreTrainedModel, weights: Iterable[tuple[str, Tensor]] | None = None
) -> ModelIdentity:
    """Return a model's identity; it must not be sorted or cast yet.

    Two dtypes of the same weights count as one model as long as the weights survive the cast.

    Args:
        model: The model.
        weights: What `lasting` returns of it, in the order of the names, if the model is not in
            memory.
    """
    digest = hashlib.sha256()
    params = 0
    for name, weight in sorted(lasting(model).items()) if weights is None else weights:
        flat = weight.detach().reshape(-1)
        steps = torch.arange(SAMPLED_VALUES, device=flat.device)
        positions = steps * (len(flat) - 1) // SAMPLED_VALUES
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        digest.update(flat[positions].to("cpu", torch.float32).numpy().tobytes())
        params += weight.numel() if isinstance(weight, nn.Parameter) else 0
    return ModelIdentity(
        architecture=type(model).__name__, fingerprint=digest.hexdigest()[:16], params=params
    )


def lasting(module: nn.Module) -> dict[str, Tensor]:
    """Return all that a checkpoint stores of a module by name: parameters, persistent buffers.

    Tied parameters come once.
    """
    stored = module.state_dict()
    buffers = {name: buffer for name, buffer in module.named_buffers() if name in stored}
    return {**dict(module.named_parameters()), **buffers}
