"""Copies of a model with other weights, against the model itself, in float64."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from search_spaces.structure.model import ModelStructure


@torch.inference_mode()
def kl_of_change(
    structure: ModelStructure, tokens: Tensor, change: Callable[[nn.Module], None]
) -> float:
    """Return the KL to a model, in nats a token, of a copy of it.

    Args:
        structure: The model.
        tokens: Token ids ``(windows, tokens)``.
        change: Changes the layers of the copy in place.
    """
    dense = copy.deepcopy(structure.backbone.model).double()
    changed = copy.deepcopy(dense)
    change(changed.get_submodule(structure.backbone.stack.path))
    log_p, log_q = (
        model(input_ids=tokens).logits[:, :-1].double().log_softmax(-1)
        for model in (dense, changed)
    )
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
