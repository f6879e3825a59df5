"""Windows of tokens to search and report on, drawn from the user's text."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from evaluators.data.documents import read_documents
from search_spaces.errors import DataError

LONGEST_TEXT = 2_000_000
"""Characters tokenised of each part of a long text: far more than any search needs."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How much text a search uses, in windows of equal length."""

    search: int
    fresh: int
    holdout: int
    tokens: int
    """In each window."""
    statistics: int = 0
    """For statistics, those of the search included; fewer if the text is short."""
    search_option: str = "--search_windows"
    """The option that sets ``search``."""

    @property
    def extra(self) -> int:
        """Windows for statistics only."""
        return max(0, self.statistics - self.search)


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Where a user's text is read from; see `evaluators.data.documents.read_documents`."""

    data: str
    """Text of the search and of the fresh windows."""
    holdout: str | None = None
    """Held-out text; None: the second half of ``data``."""
    split: str = "train"
    """Split of a named data set."""
    column: str = "text"
    """Column that holds the text."""

    def __str__(self) -> str:
        return self.data if self.holdout is None else f"{self.data}, held out {self.holdout}"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Disjoint token ids: to search on, and to report on."""

    search: Tensor
    """``(windows, tokens)``"""
    fresh: Tensor
    """``(windows, tokens)`` of the same text as the search's: a second draw."""
    holdout: Tensor
    """``(windows, tokens)``; no decision is ever based on them."""
    extra: Tensor
    """``(windows, tokens)`` of the search's text, for statistics only; may be empty."""
    source: str
    """Where the text came from."""

    @property
    def statistics(self) -> Tensor:
        """Windows for statistics: the search's and the extra ones, ``(windows, tokens)``."""
        return torch.cat([self.search, self.extra])

    def save(self, path: Path) -> None:
        """Write the tokens as ``.npz``."""
        with path.open("wb") as file:
            np.savez(
                file,
                search=self.search.numpy(),
                fresh=self.fresh.numpy(),
                holdout=self.holdout.numpy(),
                extra=self.extra.numpy(),
                source=np.array(self.source),
            )

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read what `save` wrote."""
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return cls(
                search=torch.from_numpy(arrays["search"]),
                fresh=torch.from_numpy(arrays["fresh"]),
                holdout=torch.from_numpy(arrays["holdout"]),
                extra=torch.from_numpy(arrays["extra"]),
                source=str(arrays["source"]),
            )


def from_text(
    source: TextSource,
    tokenizer: PreTrainedTokenizerBase,
    windows: Windows,
    *,
    rng: np.random.Generator,
) -> Calibration:
    """Draw windows from the user's text.

    The search's and the fresh windows come from all of it if other text is held out; else from its
    first half, and the held-out windows from its second.

    Args:
        source: Of the text.
        tokenizer: The model's.
        windows: How many, and how long.
        rng: Draws the windows.

    Raises:
        DataError: If the text is unreadable or too short, or the held-out text is the same.
    """
    first, second = _parts(source)
    counts = {windows.search_option: windows.search, "--fresh_windows": windows.fresh}
    search, fresh, extra = _draw(first, tokenizer, counts, windows, rng)
    counts = {"--holdout_windows": windows.holdout}
    (holdout, _) = _draw(second, tokenizer, counts, replace(windows, statistics=0), rng)
    return Calibration(
        search=search, fresh=fresh, holdout=holdout, extra=extra, source=str(source)
    )


@dataclass(frozen=True, kw_only=True)
class _Part:
    text: str
    name: str
    """As used in a message."""


def _parts(source: TextSource) -> tuple[_Part, _Part]:
    """Read the text to search on and the held-out text."""
    documents = read_documents(source.data, split=source.split, column=source.column)
    if source.holdout is None:
        first, second = _halves(documents)
        name = "one half of the text, and that half"
        return _Part(text=first, name=name), _Part(text=second, name=name)
    held_out = read_documents(source.holdout, split=source.split, column=source.column)
    if held_out == documents:
        raise DataError(
            f"`--holdout` must be other text than `--data`, got the same in `{source.holdout}`; "
            "give other text, or leave it out to hold out the second half"
        )
    return (
        _Part(text=_joined(documents), name=f"`{source.data}`, and it"),
        _Part(text=_joined(held_out), name=f"`{source.holdout}`, and it"),
    )


def _joined(documents: list[str]) -> str:
    return "\n\n".join(documents)


def _halves(documents: list[str]) -> tuple[str, str]:
    """Split text in the middle, between documents or else between words.

    Example:
        >>> [half.strip() for half in _halves(["one document", "another one"])]
        ['one document', 'another one']
    """
    text = _joined(documents)
    middle = len(text) // 2
    borders = np.cumsum([len(document) + 2 for document in documents])[:-1]
    near = borders[np.abs(borders - middle) < len(text) // 8]
    if len(near):
        border = int(near[np.abs(near - middle).argmin()])
    else:
        border = max(middle, text.find(" ", middle, middle + len(text) // 8))
    return text[:border], text[border:]


def _draw(
    part: _Part,
    tokenizer: PreTrainedTokenizerBase,
    counts: Mapping[str, int],
    windows: Windows,
    rng: np.random.Generator,
) -> list[Tensor]:
    """Draw disjoint sets of windows from some text.

    Args:
        part: The text.
        tokenizer: The model's.
        counts: Windows of each set, by the option that sets their number.
        windows: How long, and how many for statistics.
        rng: Draws the windows.

    Returns:
        One set for each count, and the extra windows for statistics, as many as the text has.
    """
    text, length = part.text, windows.tokens
    start = int(rng.integers(max(1, len(text) - LONGEST_TEXT + 1)))
    prefix = _prefix(tokenizer)
    body = length - len(prefix)
    ids = tokenizer(text[start : start + LONGEST_TEXT], add_special_tokens=False, verbose=False)
    available, total = len(ids["input_ids"]) // body, sum(counts.values())
    if available < total:
        counts = {option: count for option, count in counts.items() if count}
        raise DataError(
            f"calibration needs {' + '.join(map(str, counts.values()))} windows of {length} "
            f"tokens in {part.name} holds {available}; give more text, or lower "
            f"{', '.join(f'`{option}`' for option in counts)} or `--window_tokens`"
        )
    bodies = np.asarray(ids["input_ids"][: available * body], dtype=np.int64)
    bodies = bodies.reshape(available, body)
    drawn = rng.choice(available, size=total, replace=False)
    rest = rng.permutation(np.setdiff1d(np.arange(available), drawn))[: windows.extra]
    rows = torch.from_numpy(bodies[np.concatenate([drawn, rest])])
    start_of_text = torch.tensor(prefix, dtype=torch.long).expand(len(rows), -1)
    drawn_windows = torch.cat([start_of_text, rows], dim=1)
    return list(torch.split(drawn_windows, [*counts.values(), len(rest)]))


def _prefix(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that the tokenizer puts before every text, such as begin-of-text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    for position in range(len(full)):
        if full[position : position + len(plain)] == plain:
            return list(full[:position])
    return []
