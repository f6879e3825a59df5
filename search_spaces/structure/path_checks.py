"""Checks that a model can be run the way that the planner runs it."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from search_spaces.errors import ModelError, StructureError
from search_spaces.structure.backbone import Backbone, position_count, probe_tokens


def check_path(backbone: Backbone) -> None:
    """Check that the path layer by layer computes the model's logits.

    Raises:
        ModelError: If the model's logits are not finite, or all alike.
        StructureError: If logits differ by more than 1e-3 of their spread.
    """
    tokens = probe_tokens(backbone.model)
    with torch.inference_mode():
        expected = backbone.model(input_ids=tokens, use_cache=False).logits.float()
        _check_logits(expected, backbone.model.dtype)
        inputs = backbone.enter(tokens)
        hidden = inputs.hidden
        for layer, call in zip(backbone.layers, inputs.calls, strict=True):
            hidden = backbone.run_layer(layer, hidden, call)
        actual = backbone.logits(backbone.leave(hidden)).float()
    gap = float((actual - expected).abs().max())
    # the same operations in the same order: only a batched head may round differently
    allowed = 1e-3 * float(expected.std())
    if not gap <= allowed:
        raise StructureError(
            f"logits through the planner's own path must equal the model's within {allowed:.1e}, "
            f"got a difference of {gap:.1e} after `{backbone.stack.path}`; this model does "
            "something between its layers and its logits that the planner cannot follow"
        )


def check_cache(model: PreTrainedModel) -> None:
    """Check that the model computes the same with a cache as without, as each export must.

    Raises:
        ModelError: If the model's logits are not finite, or all alike.
        StructureError: If it does not.
    """
    count = min(48, position_count(model) or 48)
    size = len(next(model.get_input_embeddings().parameters()))
    tokens = torch.arange(2 * count, device=model.device).view(2, count) * 7 % size
    with torch.inference_mode():
        expected = model(input_ids=tokens, use_cache=False).logits.float()
        _check_logits(expected, model.dtype)
        cached = logits_with_cache(model, tokens, 2).float()
    expected = expected[:, -cached.shape[1] :]
    # over the vocabulary, whose largest difference is rounding alone in a half precision; most
    # tokens must agree, not all: rounding may lead a router to another expert
    gap = float((cached - expected).square().mean(dim=-1).sqrt().median())
    allowed = (1e-3 if model.dtype == torch.float32 else 0.1) * float(expected.std())
    if not gap <= allowed:
        raise StructureError(
            f"a model must compute the same with a cache as without, within {allowed:.1e}, and "
            f"{type(model).__name__} differs by {gap:.1e}; its exports could not be proved"
        )


def logits_with_cache(model: PreTrainedModel, tokens: Tensor, count: int = 4) -> Tensor:
    """Return the logits of the last tokens, each fed by itself after a cached prompt.

    Args:
        model: The model.
        tokens: Token ids ``(batch, tokens)``.
        count: How many tokens to feed so, each of which is a forward pass.

    Returns:
        ``(batch, last tokens, vocabulary)``
    """
    start = max(1, tokens.shape[1] - count)
    output = model(tokens[:, :start], use_cache=True)
    logits = []
    for position in range(start, tokens.shape[1]):
        output = model(
            tokens[:, position : position + 1],
            past_key_values=output.past_key_values,
            use_cache=True,
        )
        logits.append(output.logits)
    return torch.cat(logits, dim=1)


def _check_logits(logits: Tensor, dtype: torch.dtype) -> None:
    """Refuse a dense model that predicts nothing, from which no candidate could differ."""
    place = f"in {str(dtype).removeprefix('torch.')}"
    remedy = "get a sound checkpoint"
    if dtype != torch.float32:
        remedy += ", or set `--dtype float32`"
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(
            f"a model's logits must be finite, and {place} they are not: weights or hidden states "
            f"overflow; {remedy}"
        )
    if bool((logits.amin(dim=-1) == logits.amax(dim=-1)).all()):
        raise ModelError(
            f"a model's logits must differ from token to token, and {place} all are alike: its "
            f"embedding, last norm or head vanishes or overflows; {remedy}"
        )
