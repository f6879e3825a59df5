"""Latency of a model as it runs: prefill of a prompt, and decoding token by token."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evaluators.latency.workload import Latency, Workload
from search_spaces.structure.backbone import position_count

PREFILLS = 3
"""In a turn, of which the median is taken: one by itself is noisier than the many decode steps."""


@torch.inference_mode()
def time_request(model: PreTrainedModel, workload: Workload) -> Latency:
    """Time one request, as those who load the model see it."""
    prompt, prefills = prompt_of(model, workload), []
    with as_loaded(model):
        for _ in range(PREFILLS):
            start = now(model)
            output = model(prompt, use_cache=True, logits_to_keep=1)
            prefills.append(now(model) - start)
        start = now(model)
        for _ in range(workload.new_tokens):
            output = next_token(model, output)
        decode = now(model) - start
    return Latency(
        prefill_ms=1e3 * statistics.median(prefills),
        decode_ms=1e3 * decode / workload.new_tokens if workload.new_tokens else 0.0,
    )


@contextmanager
def as_loaded(model: PreTrainedModel) -> Iterator[None]:
    """Let weights require gradients, as those of any model that was just loaded do.

    torch multiplies the last token of a prompt by weights that do not in another way
    (``should_fold`` of its ``LinearAlgebra.cpp``): it copies the head first if that is bfloat16,
    which took as long as a third of the prefill of SmolLM2-135M.
    """
    frozen = [w for w in model.parameters() if w.is_floating_point() and not w.requires_grad]
    for weight in frozen:
        weight.requires_grad = True
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad = False


def least_bytes(model: PreTrainedModel, workload: Workload, kv_bytes: float) -> float:
    """Return what a request takes at least.

    These are the hidden states of the prompt before and after a layer, the logits of its last
    token, and the cache.

    Args:
        model: On any device.
        workload: As it is asked for.
        kv_bytes: That each token adds to the cache.
    """
    vocabulary, width = next(model.get_input_embeddings().parameters()).shape
    request = workload.fitted(position_count(model))
    cached = request.prompt_tokens + request.new_tokens
    if window := getattr(model.config.get_text_config(), "sliding_window", None):
        cached = min(cached, window)  # of some layers or all
    hidden = (2 * request.prompt_tokens * width + vocabulary) * model.dtype.itemsize
    return request.batch_size * (hidden + cached * kv_bytes)


def prompt_of(model: PreTrainedModel, workload: Workload) -> Tensor:
    """Return token ids ``(batch, tokens)`` to read."""
    vocabulary = len(next(model.get_input_embeddings().parameters()))
    tokens = torch.arange(workload.prompt_tokens, device=model.device) % vocabulary
    return tokens.expand(workload.batch_size, -1)


def next_token(model: PreTrainedModel, output: Any) -> Any:
    """Write the most probable token after an output, and return the next output."""
    token: Tensor = output.logits[:, -1:].argmax(dim=-1)
    return model(token, past_key_values=output.past_key_values, use_cache=True)


def now(model: PreTrainedModel) -> float:
    """Return the time in seconds, once the model's device has finished its queue."""
    if model.device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()
