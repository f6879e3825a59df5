"""Latency of a model as it runs: prefill of a prompt, and decoding token by token."""

import statistics
import time
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import PreTrainedModel

from search_spaces.structure.backbone import position_count

PREFILLS = 3
"""In a turn, of which the median is taken: one by itself is noisier than the many decode steps."""


_Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Latency(BaseModel):
    """Milliseconds that a model, or a part of one, takes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prefill_ms: _Milliseconds
    """Reading the prompt."""
    decode_ms: _Milliseconds
    """Each further token, on average over the tokens that are written."""


class Workload(BaseModel):
    """One request."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    batch_size: int = 1
    """Sequences that are run side by side."""
    prompt_tokens: int = 128
    """Tokens read, in each sequence."""
    new_tokens: int = 32
    """Tokens written, in each sequence."""

    def fitted(self, model: PreTrainedModel) -> "Workload":
        """Shorten the request to what the model has room for: the prompt first."""
        request_tokens = self.prompt_tokens + self.new_tokens
        room = min(request_tokens, position_count(model) or request_tokens)
        new_tokens = min(self.new_tokens, room - 1)
        shortened = {"prompt_tokens": room - new_tokens, "new_tokens": new_tokens}
        return self.model_copy(update=shortened)

    def request_ms(self, latency: Latency) -> float:
        """Return the time of the whole request."""
        return latency.prefill_ms + self.new_tokens * latency.decode_ms

    def throughput(self, request_ms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the tokens written in a second; those read if the workload writes none."""
        tokens = self.batch_size * (self.new_tokens or self.prompt_tokens)
        return 1e3 * tokens / request_ms

    def __str__(self) -> str:
        return (
            f"batch {self.batch_size}, {self.prompt_tokens} tokens read, {self.new_tokens} written"
        )


def measure_latencies(
    models: Mapping[str, PreTrainedModel], workload: Workload, *, repeats: int = 3
) -> dict[str, Latency]:
    """Time models side by side, in turns, so that a busy machine slows all of them alike.

    Args:
        models: By any name.
        workload: What to time; the prompt is shortened if a model has no room for it.
        repeats: Turns, of which the median is returned, after one that is not counted.
    """
    times: dict[str, list[Latency]] = {name: [] for name in models}
    for turn in range(1 + repeats):
        for name, model in models.items():
            latency = _time_request(model, workload.fitted(model))
            if turn:
                times[name].append(latency)
    return {
        name: Latency(
            prefill_ms=statistics.median(run.prefill_ms for run in runs),
            decode_ms=statistics.median(run.decode_ms for run in runs),
        )
        for name, runs in times.items()
    }


@torch.inference_mode()
def _time_request(model: PreTrainedModel, workload: Workload) -> Latency:
    prompt, prefills = prompt_of(model, workload), []
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
        decode_ms=1e3 * decode / max(1, workload.new_tokens),
    )


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
    request = workload.fitted(model)
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
