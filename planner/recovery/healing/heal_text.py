"""The text that is healed on: windows in a random order, none of them measured on or held out."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluators.data.text_samples import Vocabulary
from search_spaces.errors import DataError, quoted

logger = logging.getLogger(__name__)

_OVERLAP_TOKENS = 16
"""Tokens in a row that a window must not share with text that is measured on."""
_SHARD_CHARACTERS = 1_000_000
"""Tokenised at a time: enough to draw from at random, done in a second."""


class Measured:
    """Text that is measured on, which no window to train on may hold a passage of.

    Args:
        windows: Sets of token ids ``(windows, tokens)``.
        prefix: Tokens at the start of a window that may be of no text.

    References:
        Brown et al., 2020, arXiv 2005.14165, appendix C (overlaps of 13 words).
    """

    def __init__(self, windows: Iterable[Tensor], prefix: int = 0) -> None:
        rows = [row for each in windows for row in each[:, prefix:].numpy()]
        self._length = min([_OVERLAP_TOKENS, *(len(row) for row in rows)])
        self._seen = np.unique(np.concatenate([self._passages(row) for row in rows]))

    def overlaps(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which rows of token ids ``(rows, tokens)`` share a passage with it."""
        return np.asarray(np.isin(self._passages(rows), self._seen).any(axis=1))

    def _passages(self, ids: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return a number for each passage ``(..., passages)`` of token ids ``(..., tokens)``."""
        passages = np.lib.stride_tricks.sliding_window_view(ids, self._length, axis=-1)
        factors = np.random.default_rng(0).integers(2**63, size=self._length, dtype=np.uint64)
        total = np.zeros(passages.shape[:-1], dtype=np.uint64)
        for position in range(self._length):  # a product of matrices would take as much again
            mixed = (passages[..., position].astype(np.uint64) + np.uint64(1)) * factors[position]
            total += mixed ^ (mixed >> np.uint64(29))
        return total


@dataclass(kw_only=True)
class HealText:
    """Windows of some text, in an order that its seed decides, round after round.

    It is tokenised bit by bit, as training comes to it.
    """

    documents: list[str]
    name: str
    """For messages."""
    vocabulary: Vocabulary
    tokens: int
    """In each window."""
    measured: Measured
    seed: int
    left_out: int = 0
    """Windows that were not used, for they overlap with what is measured on."""

    def __post_init__(self) -> None:
        self._shards = list(_shards(self.documents))
        self._counts: dict[int, int] = {}
        self._current: tuple[int, Tensor] = (-1, torch.empty(0, self.tokens, dtype=torch.long))

    def check(self, count: int) -> None:
        """Refuse text that has fewer windows than one step takes.

        Raises:
            DataError: If it is such.
        """
        found = 0
        for shard in range(len(self._shards)):
            found += len(self._windows(shard))
            if found >= count:
                return
        overlap = f" besides {self.left_out} that overlap with such text" if self.left_out else ""
        raise DataError(
            f"healing needs text with {count} windows of {self.tokens} tokens that are not "
            f"measured on, and {quoted(self.name)} holds {found}{overlap}; give more text with "
            "`--data`, or lower `--windows` or `--window_tokens`"
        )

    def read(self, position: int, count: int) -> Tensor:
        """Return token ids ``(count, tokens)``, given how many windows were read before them."""
        rows: list[Tensor] = []
        while len(rows) < count:
            windows, offset = self._locate(position + len(rows))
            rows.extend(windows[offset : offset + count - len(rows)].unbind())
        return torch.stack(rows)

    def _locate(self, position: int) -> tuple[Tensor, int]:
        """Return the shard that holds the window at a position of the order, and where in it."""
        round_number = 0
        while True:
            rng = np.random.default_rng([self.seed, round_number])
            for shard in rng.permutation(len(self._shards)).tolist():
                count = self._counts.get(shard)
                if count is None:
                    count = len(self._windows(shard))
                if position < count:
                    windows = self._windows(shard)
                    order = np.random.default_rng([self.seed, round_number, shard])
                    return windows[order.permutation(count)], position
                position -= count
            round_number += 1

    def _windows(self, shard: int) -> Tensor:
        """Return the windows of a shard that may be trained on, ``(windows, tokens)``."""
        if self._current[0] == shard:
            return self._current[1]
        prefix = self.vocabulary.prefix()
        body = self.tokens - len(prefix)
        ids = self.vocabulary.ids(self._shards[shard], quoted(self.name))
        rows = ids[: len(ids) // body * body].reshape(-1, body)
        if len(rows):
            overlaps = self.measured.overlaps(rows)
            self.left_out += 0 if shard in self._counts else int(overlaps.sum())
            rows = rows[~overlaps]
        heads = np.tile(np.array(prefix, dtype=np.int64), (len(rows), 1))
        windows = torch.from_numpy(np.concatenate([heads, rows], axis=1))
        self._counts[shard] = len(windows)
        self._current = (shard, windows)
        return windows


def _shards(documents: Iterable[str]) -> Iterator[str]:
    """Join documents to parts of about one size; long ones are parted, between words at best."""
    part: list[str] = []
    length = 0
    for document in documents:
        start = 0
        while start < len(document):
            end = start + _SHARD_CHARACTERS
            space = document.rfind(" ", start, end) if end < len(document) else -1
            end = space + 1 if space > start else end
            part.append(document[start:end])
            length += len(part[-1])
            start = end
            if length >= _SHARD_CHARACTERS // 2:
                yield "\n\n".join(part)
                part, length = [], 0
    if part:
        yield "\n\n".join(part)
