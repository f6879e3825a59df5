"""Timing stacks of a model's own layers, pruned alike, in the place of the model's stack."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from evaluators.latency.measure import Workload, next_token, now, prompt_of
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions, ExpertPruning
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


@dataclass(frozen=True, kw_only=True)
class StackCase:
    """Layers of one kind, all pruned to the same widths."""

    layers: tuple[int, ...]
    kept: tuple[int, ...]
    """Units kept of each of the layer's components."""
    options: BlockOptions = DENSE_OPTIONS
    """Of the component that is kept."""
    is_half: bool = False
    """Whether it is only timed to find what a bare layer takes."""

    @property
    def half(self) -> int:
        """Number of layers in half of the stack."""
        return len(self.layers) // 2


class StackTimer:
    """Runs stacks of layers in the place of the model's own.

    Args:
        structure: The dense model.
        workload: What is timed.
    """

    def __init__(self, structure: ModelStructure, workload: Workload) -> None:
        self._structure = structure
        self._workload = workload
        model = structure.backbone.model
        weight_bytes = sum(weight.nbytes for weight in model.parameters())
        size = min(weight_bytes, EVICTED_BYTES) // 4
        self._other = torch.ones(size, dtype=torch.float32, device=model.device)

    def cut(self, case: StackCase) -> nn.ModuleList:
        """Return a stack of copies, so that its matrices lie in memory as an export's do."""
        layers = self._structure.backbone.layers
        stack = []
        for index in case.layers:
            choices, insides = [], []
            components = self._structure.layers[index].components
            for component, count in zip(components, case.kept, strict=True):
                members = np.sort(component.members(np.arange(component.member_count), count))
                choices.append((component, members))
                channels = np.tile(np.arange(case.options.channels), (len(members), 1))
                insides.append(
                    ExpertPruning(
                        channels=channels if case.options.channels else None,
                        top_k=case.options.top_k,
                    )
                )
            stack.append(cut(layers[index], choices, (), insides))
        return nn.ModuleList(stack)

    def time(self, stack: nn.ModuleList) -> Times:
        """Time the model with a stack for its layers."""
        with _substituted(self._structure, stack):
            return self._time()

    def _time(self) -> Times:
        model, workload = self._structure.backbone.model, self._workload
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
