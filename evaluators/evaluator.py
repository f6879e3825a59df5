"""Scoring candidates against the dense model on common tokens, with standard errors."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluators.memory import keep_pages
from evaluators.metric import Measurement
from evaluators.population import Counts, PrefixTree
from evaluators.quality import QUALITY
from evaluators.quality.comparison import Comparison, Teacher
from search_spaces.structure.backbone import LayerInputs
from search_spaces.structure.read import ModelStructure

LOGITS_BYTES = 32 * 2**20
"""Size of one chunk of logits: small beside a model, large enough to multiply well."""
HEADS_AT_ONCE = 8
"""Candidates for which one chunk of the teacher's logits is computed."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The quality of one candidate."""

    quality: Mapping[str, Measurement]
    """By metric name; the error is that of the mean over windows."""
    tokens: int
    """Tokens the candidate was run on."""
    seconds: float
    """Its share of the time."""


@dataclass(frozen=True)
class _Batch:
    inputs: LayerInputs
    teacher: Tensor  # final hidden states of the dense model, (positions, hidden)
    targets: Tensor  # (positions,)


class Evaluator:
    """Scores candidates of one model on one set of windows.

    The teacher's side is kept as hidden states; its logits are computed chunk by chunk beside the
    candidates', so that a full vocabulary never stands in memory for more than one chunk.

    Args:
        structure: The model, its units sorted.
        windows: Token ids ``(windows, tokens)``, at least two windows of two tokens.
        batch_tokens: Tokens run at once.
    """

    def __init__(
        self, structure: ModelStructure, windows: Tensor, *, batch_tokens: int = 4096
    ) -> None:
        keep_pages()
        self._backbone = structure.backbone
        self._windows, self._length = windows.shape
        self._dense = np.array([block.unit_count for block in structure.sub_blocks])
        self.tree = PrefixTree(structure)
        vocabulary = self._backbone.model.config.get_text_config().vocab_size
        self._chunk = max(1, LOGITS_BYTES // (4 * vocabulary))
        at_once = max(1, batch_tokens // self._length)
        self._batches = [self._prepare(batch) for batch in torch.split(windows, at_once)]

    def score(self, counts: Counts) -> Iterator[tuple[int, Score]]:
        """Score candidates; each is given as soon as it is known.

        Args:
            counts: Kept units, ``(candidates, sub_blocks)``.

        Yields:
            Position of the candidate, and its score. A score does not depend on the company.
        """
        if self._backbone.streamed:
            yield from self._score_by_layer(counts)
            return
        collected: list[list[NDArray[np.float64]]] = [[] for _ in counts]
        seconds = np.zeros(len(counts))
        for batch in self._batches:
            started = time.monotonic()
            for company in self._score_batch(counts, batch):
                landed = time.monotonic()
                seconds[list(company)] += (landed - started) / len(company)
                for member, by_window in company.items():
                    collected[member].append(by_window)
                    if len(collected[member]) == len(self._batches):
                        whole = np.concatenate(collected[member], axis=1)
                        yield member, self._summary(whole, float(seconds[member]))
                started = time.monotonic()  # the caller's time since then is not counted

    @torch.inference_mode()
    def _score_by_layer(self, counts: Counts) -> Iterator[tuple[int, Score]]:
        started = time.monotonic()
        collected: list[list[NDArray[np.float64]]] = [[] for _ in counts]
        found = {
            (batch, member): final
            for batch, member, final in self.tree.walk_by_layer(
                counts, [batch.inputs for batch in self._batches]
            )
        }
        for member in range(len(counts)):
            for index, batch in enumerate(self._batches):
                final = self._positions(found.pop((index, member)))
                collected[member].append(self._compare([(member, final)], batch)[member])
            whole = np.concatenate(collected[member], axis=1)
            yield member, self._summary(whole, (time.monotonic() - started) / len(counts))

    @torch.inference_mode()
    def _prepare(self, windows: Tensor) -> _Batch:
        tokens = windows.to(self._backbone.model.device)
        inputs = self._backbone.enter(tokens)
        ((_, _, final),) = PrefixTree(self.tree.structure).walk_by_layer(
            self._dense[None], [inputs]
        )
        return _Batch(inputs, self._positions(final), tokens[:, 1:].flatten())

    def _positions(self, final: Tensor) -> Tensor:
        """Give the positions that have a next token, ``(positions, hidden)``."""
        return final[:, :-1].flatten(0, 1)

    @torch.inference_mode()
    def _score_batch(
        self, counts: Counts, batch: _Batch
    ) -> Iterator[dict[int, NDArray[np.float64]]]:
        """Give candidates in small companies: for each its ``(metrics, windows)``."""
        waiting: list[tuple[int, Tensor]] = []
        for member, final in self.tree.walk(counts, batch.inputs):
            waiting.append((member, self._positions(final)))
            if len(waiting) == HEADS_AT_ONCE:
                yield self._compare(waiting, batch)
                waiting = []
        if waiting:
            yield self._compare(waiting, batch)

    def _compare(
        self, waiting: list[tuple[int, Tensor]], batch: _Batch
    ) -> dict[int, NDArray[np.float64]]:
        """Measure candidates beside the teacher, by member ``(metrics, windows)``."""
        values: list[list[Tensor]] = [[] for _ in waiting]
        for start in range(0, len(batch.targets), self._chunk):
            part = slice(start, start + self._chunk)
            teacher = Teacher.of(self._backbone.logits(batch.teacher[part]))
            for found, (_, final) in zip(values, waiting, strict=True):
                logits = self._backbone.logits(final[part])
                compared = Comparison.of(logits, teacher, batch.targets[part])
                found.append(torch.stack([measure(compared) for _, measure in QUALITY.values()]))
        measured = {}
        for (member, _), found in zip(waiting, values, strict=True):
            joined = torch.cat(found, dim=1).double()  # (metrics, positions)
            by_window = joined.reshape(len(QUALITY), -1, self._length - 1).mean(dim=2)
            measured[member] = by_window.cpu().numpy()
        return measured

    def _summary(self, by_window: NDArray[np.float64], seconds: float) -> Score:
        means = by_window.mean(axis=1)
        errors = by_window.std(axis=1, ddof=1) / np.sqrt(self._windows)
        return Score(
            quality={
                name: Measurement(value=float(mean), standard_error=float(error))
                for name, mean, error in zip(QUALITY, means, errors, strict=True)
            },
            tokens=self._windows * self._length,
            seconds=seconds,
        )
