"""Measured latency of a model as it runs: reading a prompt, and writing one token more."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from search_spaces.structure.backbone import position_count


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is timed."""

    prompt_tokens: int = 128
    new_tokens: int = 16
    repeats: int = 3


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Medians over the repeats."""

    prefill_ms: float
    """Reading the prompt."""
    decode_ms: float
    """Each further token."""


@torch.inference_mode()
def measure_latencies(
    models: Mapping[str, PreTrainedModel], workload: Workload
) -> dict[str, Latency]:
    """Time models side by side, in turns, so that a busy machine slows all of them alike.

    Args:
        models: By any name; one sequence at a time is run through each.
        workload: What to time.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for model in models.values():
        _time_once(model, workload)  # warm-up, not counted
    for _ in range(workload.repeats):
        for name, model in models.items():
            times[name].append(_time_once(model, workload))
    return {
        name: Latency(
            prefill_ms=1e3 * statistics.median(prefill for prefill, _ in runs),
            decode_ms=1e3 * statistics.median(decode for _, decode in runs),
        )
        for name, runs in times.items()
    }


def _time_once(model: PreTrainedModel, workload: Workload) -> tuple[float, float]:
    """Give seconds for the prompt and for each token after it."""
    vocabulary = len(next(model.get_input_embeddings().parameters()))
    wanted = workload.prompt_tokens + workload.new_tokens
    room = min(wanted, position_count(model) or wanted)
    length = max(1, room - workload.new_tokens)
    prompt = torch.arange(length, device=model.device)[None] % vocabulary
    start = _now(model)
    output = model(prompt, use_cache=True, logits_to_keep=1)
    prefill = _now(model)
    for _ in range(workload.new_tokens):
        token: Tensor = output.logits[:, -1:].argmax(dim=-1)
        output = model(token, past_key_values=output.past_key_values, use_cache=True)
    return prefill - start, (_now(model) - prefill) / workload.new_tokens


def _now(model: PreTrainedModel) -> float:
    if model.device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()
