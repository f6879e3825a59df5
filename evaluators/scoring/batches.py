"""The text that candidates are scored on, as batches with the dense model's side of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluators.quality import SEARCH_METRICS
from evaluators.scoring.by_gradient.gradient_text import GradientText
from evaluators.scoring.passes.dense_pass import DensePass
from evaluators.scoring.readout import Readout
from evaluators.scoring.state_cache import STATE_BYTES
from search_spaces.structure.backbone import Backbone, LayerInputs

GRADIENT_TOKENS = 512
"""Tokens at once for gradients: all intermediate activations of a pass must be held."""
SWEEP_BYTES = 512 * 2**20
"""Default bound on the hidden states that go through a streamed model at once."""


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How finely candidates are scored, and in which portions."""

    rungs: tuple[int, ...] = ()
    """Windows scored after each portion, ascending up to all of them; empty: all at once."""
    positions: int | None = None
    """Positions scored in each window, drawn by the seed; None: all that have a next token."""
    seed: int = 0
    metrics: tuple[str, ...] = SEARCH_METRICS
    batch_tokens: int = 4096
    """Tokens run at once; halved when memory runs out."""
    state_bytes: int = STATE_BYTES
    """Bound on the hidden states that are kept between calls."""
    sweep_bytes: int = SWEEP_BYTES
    """Bound on the hidden states held at once if layers are streamed; halved likewise."""


@dataclass(frozen=True)
class Batch:
    """Some windows of text, ready for candidates."""

    inputs: LayerInputs
    readout: Readout
    token_count: int


class WindowBatches:
    """Divides windows into batches, by rung or by choice, and keeps those of rungs.

    Args:
        backbone: The dense model.
        windows: Token ids ``(windows, tokens)``.
        fidelity: How finely.
    """

    def __init__(self, backbone: Backbone, windows: Tensor, fidelity: Fidelity) -> None:
        self._backbone = backbone
        self._windows = windows
        self._metrics = fidelity.metrics
        self.rungs = fidelity.rungs or (len(windows),)
        self.positions = _draw_positions(windows, fidelity)
        """Positions scored in each window, ``(windows, positions)``, ascending."""
        at_once = fidelity.batch_tokens // windows.shape[1]
        self.windows_at_once = max(1, min(at_once, len(windows)))
        self._gradient_windows = max(1, GRADIENT_TOKENS // windows.shape[1])
        self._by_rung: dict[int, list[Batch]] = {}
        self._gradient_texts: list[GradientText] = []
        self._dense_pass: DensePass | None = None

    def of_rung(self, rung: int) -> list[Batch]:
        """Return the batches of a rung; they are prepared once."""
        if rung not in self._by_rung:
            self._by_rung[rung] = [self._prepare(part) for part in self.parts(rung)]
        return self._by_rung[rung]

    def parts(self, rung: int) -> list[slice]:
        """Return the windows of each batch of a rung."""
        start, stop = self.rungs[rung - 1] if rung else 0, self.rungs[rung]
        return [
            slice(first, min(first + self.windows_at_once, stop))
            for first in range(start, stop, self.windows_at_once)
        ]

    def keys(self, rung: int) -> list[int]:
        """Return a number for each batch of a rung, distinct over all rungs."""
        return [(rung << 32) + index for index in range(len(self.of_rung(rung)))]

    def state_sizes(self) -> Iterator[tuple[int, int, int]]:
        """Yield rung, key and bytes of one hidden state, of each batch that was prepared."""
        for rung, batches in self._by_rung.items():
            for key, batch in zip(self.keys(rung), batches, strict=True):
                yield rung, key, batch.inputs.hidden.nbytes

    def sampled(self, windows: Sequence[int]) -> list[Batch]:
        """Return batches of any windows, in the order given."""
        at_once = self.windows_at_once
        parts = [windows[start : start + at_once] for start in range(0, len(windows), at_once)]
        return [self._sample(part) for part in parts]

    def for_gradients(self) -> list[GradientText]:
        """Divide the first rung into what a gradient takes at once; that is done once."""
        if not self._gradient_texts:
            at_once = self._gradient_windows
            tokens = self._windows[: self.rungs[0]].to(self._backbone.model.device)
            finals = torch.cat([batch.inputs.final for batch in self.of_rung(0)])
            parts = zip(torch.split(tokens, at_once), torch.split(finals, at_once), strict=True)
            # inference tensors are refused by autograd, their clones are not
            self._gradient_texts = [
                GradientText(self._backbone, ids, final.clone()) for ids, final in parts
            ]
        return self._gradient_texts

    def halve(self) -> bool:
        """Make batches half as large and release them; return whether they held more than one."""
        if self.windows_at_once == 1:
            return False
        self.windows_at_once = (self.windows_at_once + 1) // 2
        self._by_rung.clear()
        self._gradient_texts.clear()
        self._dense_pass = None
        return True

    def halve_gradients(self) -> bool:
        """Differentiate half as many windows at once; return whether there was more than one."""
        if self._gradient_windows == 1:
            return False
        self._gradient_windows = (self._gradient_windows + 1) // 2
        self._gradient_texts.clear()
        return True

    @torch.inference_mode()
    def _prepare(self, part: slice) -> Batch:
        tokens = self._windows[part].to(self._backbone.model.device)
        return self._batch(tokens, self._backbone.enter(tokens), self.positions[part])

    @torch.inference_mode()
    def _sample(self, windows: Sequence[int]) -> Batch:
        """Put a batch of any windows together from one dense pass over all of them."""
        if self._dense_pass is None:
            self._dense_pass = DensePass(self._backbone, self._windows, self.windows_at_once)
        tokens, inputs = self._dense_pass.pick(windows)
        return self._batch(tokens, inputs, self.positions[list(windows)])

    def _batch(self, tokens: Tensor, inputs: LayerInputs, positions: NDArray[np.int_]) -> Batch:
        readout = Readout(self._backbone, tokens, inputs.final, positions, self._metrics)
        return Batch(inputs, readout, tokens.numel())


def _draw_positions(windows: Tensor, fidelity: Fidelity) -> NDArray[np.int_]:
    """Draw the positions that are scored in each window, ``(windows, positions)``, ascending."""
    count, length = windows.shape
    size = min(fidelity.positions or length, length - 1)
    rng = np.random.default_rng(fidelity.seed)
    drawn = [rng.choice(length - 1, size=size, replace=False) for _ in range(count)]
    return np.sort(np.array(drawn, dtype=np.int_), axis=1)
