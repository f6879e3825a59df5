"""How the published evolutionary planners score a candidate, in a process of its own.

The whole dense model runs with what was removed masked before the output projections, one
candidate at a time, and the KL is taken over the full vocabulary from teacher logits computed
once. No allocator setting, no shared prefix, no narrow matrix: EvoPress and similar planners do
so.
"""

import multiprocessing
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.models.loading import load_model
from search_spaces.reading.read import read_structure
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.sort import sort_units_


@dataclass(frozen=True, kw_only=True)
class NaiveScore:
    """What one candidate took."""

    kl: float
    """Nats a token."""
    seconds: float
    minor_faults: int


class NaiveScorer:
    """Scores one candidate at a time in another process, which keeps the model.

    Args:
        model: As `load_model` takes it.
        dtype: To compute in.
        orders: Units of each component, as the other side sorted them.
        windows: Token ids ``(windows, tokens)``.
        batch: Windows run at once.
    """

    def __init__(
        self,
        model: str,
        dtype: torch.dtype,
        orders: tuple[NDArray[np.int_], ...],
        windows: Tensor,
        batch: int,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(theirs, model, dtype, orders, windows.numpy(), batch),
            daemon=True,
        )
        self._process.start()
        self._ours.recv()  # it is ready

    def score(self, counts: NDArray[np.int_]) -> NaiveScore:
        """Score a candidate: units kept of each component, ``(components,)``."""
        self._ours.send(counts)
        score: NaiveScore = self._ours.recv()
        return score

    def close(self) -> None:
        """End the process."""
        self._ours.send(None)
        self._process.join()


def _serve(
    pipe: Connection,
    model: str,
    dtype: torch.dtype,
    orders: tuple[NDArray[np.int_], ...],
    windows: NDArray[np.int_],
    batch: int,
) -> None:
    structure = read_structure(load_model(model, dtype=dtype).model)
    sort_units_(structure, orders)
    batches = torch.split(torch.from_numpy(windows), batch)
    with torch.inference_mode():
        teachers = [_logits(structure, tokens).log_softmax(dim=-1) for tokens in batches]
        pipe.send("ready")
        while (counts := pipe.recv()) is not None:
            faults, started = _minor_faults(), time.perf_counter()
            with _masked(structure, counts):
                total = sum(
                    _kl(_logits(structure, tokens), teacher)
                    for tokens, teacher in zip(batches, teachers, strict=True)
                )
            positions = windows.shape[0] * (windows.shape[1] - 1)
            pipe.send(
                NaiveScore(
                    kl=total / positions,
                    seconds=time.perf_counter() - started,
                    minor_faults=_minor_faults() - faults,
                )
            )


def _logits(structure: ModelStructure, tokens: Tensor) -> Tensor:
    logits = structure.backbone.model(input_ids=tokens, use_cache=False).logits
    assert isinstance(logits, Tensor)
    return logits[:, :-1]


def _kl(logits: Tensor, teacher: Tensor) -> float:
    """Return the sum of the KL over all positions."""
    student = logits.log_softmax(dim=-1)
    return float(functional.kl_div(student, teacher, reduction="sum", log_target=True))


@contextmanager
def _masked(structure: ModelStructure, counts: NDArray[np.int_]) -> Iterator[None]:
    """Mask the removed units before the output projections, and dropped components altogether."""
    hooks = []
    for component, count in zip(structure.components, counts.tolist(), strict=True):
        output = component.projections[-1]
        linear = structure.backbone.layers[component.layer].get_submodule(output.path)
        if count < component.unit_count:
            mask = torch.from_numpy(output.units < count)
            hooks.append(linear.register_forward_pre_hook(_masking(mask)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _masking(mask: Tensor):  # type: ignore[no-untyped-def]  # a hook's type is a page long
    def hide(_module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (args[0] * mask.to(args[0].dtype),)

    return hide


def _minor_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
