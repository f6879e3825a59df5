"""Buffers that no checkpoint holds: a model makes them when it is built, in the dtype at hand."""

import torch
from transformers import PreTrainedModel

from search_spaces.models.checkpoint import placeholder
from search_spaces.models.fingerprint import lasting
from search_spaces.models.trust import load_state


def renew_buffers_(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give a model the buffers that it has when it is built in the dtype it computes in.

    Built in bfloat16, an embedding's scale of √40 is 6.3125, and stays so when the weights are
    cast to float32; those who load an export in float32 get 6.3246.

    Args:
        model: As transformers loaded it; its weights may be cast or on the ``meta`` device.
        dtype: To compute in.
    """
    stored = model.state_dict().keys()
    made = dict(model.named_buffers(remove_duplicate=False))
    made = {name: buffer for name, buffer in made.items() if name not in stored}
    if not made or model.config.dtype == dtype:
        return
    # placeholders take no memory: only what is made besides the weights is kept of it
    weights = {name: placeholder(weight, dtype) for name, weight in lasting(model).items()}
    options = {"dtype": dtype, "attn_implementation": "eager"}
    blank, _ = load_state(type(model), model.config, weights, **options)
    fresh = dict(blank.named_buffers(remove_duplicate=False))
    for name, buffer in made.items():
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, fresh[name].to(buffer.device))
