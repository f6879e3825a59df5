"""Timing stacks of a model's own layers, pruned alike, in the place of the model's stack."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from evaluators.latency.latency_setting import ServingRuntime
from evaluators.latency.measure import as_loaded, next_token, now, prompt_of, time_request
from evaluators.latency.stack_cases import StackCase
from evaluators.latency.workload import Workload
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import cut

PREFILLS = 3
"""In a turn."""
STEPS = 6
"""Tokens written in a turn at most; they lie in the middle of the workload's."""
EVICTED_BYTES = 2**27
"""Read before each step, more than caches hold."""

Times = NDArray[np.float64]
"""Milliseconds of prefill and of a decode step, ``(2,)``."""


class StackTimer(Protocol):
    """Times stacks of a model's layers in one runtime."""

    runtime: ServingRuntime
    workload: Workload
    bare_layers: bool
    """Whether a layer that keeps nothing is run all the same, and not left out."""

    def time_dense(self) -> Times:
        """Time the whole model, as it is served."""
        ...

    def time(self, case: StackCase) -> Times:
        """Time the model with a stack for its layers."""
        ...


class TorchStackTimer:
    """Runs stacks of layers in the place of the model's own, in this process.

    Args:
        structure: The dense model; it is as before after each call.
        workload: What is timed.
    """

    bare_layers = True

    def __init__(self, structure: ModelStructure, workload: Workload) -> None:
        self._structure = structure
        self.workload = workload
        model = structure.backbone.model
        self.runtime = ServingRuntime.torch_of(model)
        weight_bytes = sum(weight.nbytes for weight in model.parameters())
        size = min(weight_bytes, EVICTED_BYTES) // 4
        self._other = torch.ones(size, dtype=torch.float32, device=model.device)

    def time_dense(self) -> Times:
        latency = time_request(self._structure.backbone.model, self.workload)
        return np.array([latency.prefill_ms, latency.decode_ms])

    @torch.inference_mode()
    def time(self, case: StackCase) -> Times:
        model = self._structure.backbone.model
        with _substituted(self._structure, self._cut(case)), as_loaded(model):
            return self._time()

    def _cut(self, case: StackCase) -> nn.ModuleList:
        """Return a stack of copies, so that its matrices lie in memory as an export's do."""
        stack = []
        for index in case.layers:
            chosen = case.of_layer(self._structure.layers[index].components)
            choices = [(component, members) for component, members, _ in chosen]
            insides = [inside for _, _, inside in chosen]
            stack.append(cut(self._structure.backbone.layers[index], choices, (), insides))
        return nn.ModuleList(stack)

    def _time(self) -> Times:
        model, workload = self._structure.backbone.model, self.workload
        prompt = prompt_of(model, workload)
        prefill = []
        for _ in range(PREFILLS):
            start = self._start()
            output = model(prompt, use_cache=True, logits_to_keep=1)
            prefill.append(now(model) - start)
        steps = min(STEPS, workload.new_tokens)
        # a step takes longer the more it looks back on: time those in the middle
        skipped = (workload.new_tokens - steps) // 2
        if skipped:
            between = prompt[:, :1].expand(-1, skipped)
            cache = output.past_key_values
            output = model(between, past_key_values=cache, use_cache=True, logits_to_keep=1)
        decode = []
        for _ in range(steps):
            start = self._start()
            output = next_token(model, output)
            decode.append(now(model) - start)
        # as a request is timed: the median prompt, and the mean over new tokens
        return 1e3 * np.array([np.median(prefill), np.mean(decode or 0.0)])

    def _start(self) -> float:
        """Evict the stack from the caches, as the rest of a real model does; return the time."""
        self._other.sum()
        return now(self._structure.backbone.model)


@contextmanager
def _substituted(structure: ModelStructure, stack: nn.ModuleList) -> Iterator[None]:
    """Let the model run other layers than its own."""
    decoder, name = structure.backbone.decoder, structure.backbone.stack.path.rpartition(".")[2]
    setattr(decoder, name, stack)
    try:
        yield
    finally:
        setattr(decoder, name, structure.backbone.stack.blocks)
