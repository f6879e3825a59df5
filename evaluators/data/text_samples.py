"""Windows of tokens drawn from the user's text."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evaluators.data.documents import read_documents
from evaluators.data.repetition import Seen, is_part
from evaluators.data.windows import Calibration, Windows
from search_spaces.errors import DataError, quoted
from search_spaces.models.on_disk.tokenizer_checks import is_refusal
from search_spaces.models.on_disk.vocabulary import embedding_rows

logger = logging.getLogger(__name__)

LONGEST_TEXT = 2_000_000
"""Characters tokenised of each part of a long text: far more than any search needs."""


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Where a user's text is read from; see `evaluators.data.documents.read_documents`."""

    data: str
    """Text of all draws but the held-out one."""
    holdout: str | None = None
    """Held-out text; None: the second half of ``data``."""
    split: str = "train"
    """Split of a data set that has several."""
    column: str = "text"
    """Column that holds the text."""

    def __str__(self) -> str:
        return self.data if self.holdout is None else f"{self.data}, held out {self.holdout}"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What makes tokens of text, and which of them the model knows."""

    tokenizer: PreTrainedTokenizerBase
    embedding_rows: int

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> "Vocabulary":
        """Return the vocabulary of a model."""
        return cls(tokenizer=tokenizer, embedding_rows=embedding_rows(model))

    def ids(self, text: str, name: str) -> NDArray[np.int64]:
        """Return the tokens of a text, which has a name.

        Raises:
            DataError: If the model does not know one of them, or the tokenizer not the text.
        """
        ids = np.asarray(self._encoded(text, name, add_special_tokens=False), dtype=np.int64)
        if len(ids) and ids.max() >= self.embedding_rows:
            raise DataError(
                f"tokens must lie in the model's embedding of {self.embedding_rows} rows, and "
                f"{name} holds {self._word(ids.max())}, token {ids.max()} of the tokenizer; take "
                "it out of the text"
            )
        if len(ids) > 1 and ids.min() == ids.max():
            raise DataError(
                f"the tokenizer must tell words apart, and all of {name} is {self._word(ids[0])} "
                "to it; use the model's own tokenizer, or give other text"
            )
        return ids

    def prefix(self) -> list[int]:
        """Return the tokens that stand before every text, such as begin-of-text."""
        plain, full = (
            self._encoded("a", "`a`", add_special_tokens=special) for special in (False, True)
        )
        for position in range(len(full)):
            if full[position : position + len(plain)] == plain:
                return full[:position]
        return []

    def _encoded(self, text: str, name: str, *, add_special_tokens: bool) -> list[int]:
        try:
            encoded = self.tokenizer(text, add_special_tokens=add_special_tokens, verbose=False)
        except BaseException as error:  # tokenizers raises no class of its own
            if not is_refusal(error):
                raise
            raise DataError(
                f"the tokenizer must take any text, and cannot take {name}; use the model's own "
                "tokenizer, or give other text"
            ) from error
        ids: list[int] = encoded["input_ids"]
        return ids

    def _word(self, index: np.int64) -> str:
        return quoted(str(self.tokenizer.convert_ids_to_tokens(int(index))), 40)


def from_text(
    source: TextSource, vocabulary: Vocabulary, windows: Windows, *, rng: np.random.Generator
) -> Calibration:
    """Draw windows from the user's text, none of which repeats another.

    All but the held-out windows come from all of it if other text is held out; else from its first
    half, and the held-out ones from its second. Those come first, so that the others avoid them.

    Args:
        source: Of the text.
        vocabulary: The model's.
        windows: How many, and how long.
        rng: Draws the windows.

    Raises:
        DataError: If the text is unreadable, too short or too much alike, or the held-out text is
            part of the other.
    """
    first, second = _parts(source)
    draw = _Draw(vocabulary=vocabulary, tokens=windows.tokens, rng=rng)
    counts = {
        "calibration": windows.needed_statistics,
        "search": windows.search,
        "fresh": windows.fresh,
    }
    ours = draw.stock(first, counts)
    held_out = draw.stock(second, {"holdout": windows.holdout})
    holdout, _ = draw(held_out)
    statistics, search, fresh, more = draw(ours, spare=windows.spare)
    if draw.repeated:
        logger.info("%d windows of the text that repeat others are left out", draw.repeated)
    return Calibration(
        statistics=torch.cat([statistics, more]),
        search=search,
        fresh=fresh,
        holdout=holdout,
        source=str(source),
    )


def searched_text(source: TextSource) -> str:
    """Return the text that `from_text` draws all but the held-out windows from.

    Raises:
        DataError: If the text is unreadable, or the held-out text is part of the other.
    """
    return _parts(source)[0].text


def held_out_text(source: TextSource) -> str:
    """Return the text that `from_text` draws held-out windows from.

    Raises:
        DataError: If the text is unreadable, or the held-out text is part of the other.
    """
    return _parts(source)[1].text


@dataclass(frozen=True, kw_only=True)
class _Part:
    text: str
    name: str
    """As used in a message."""


def _parts(source: TextSource) -> tuple[_Part, _Part]:
    """Read the text to search on and the held-out text."""
    documents = read_documents(source.data, split=source.split, column=source.column)
    if source.holdout is None:
        first, second = (_Part(text=h, name="one half of the text") for h in _halves(documents))
        return first, second
    held_out = _joined(
        read_documents(
            source.holdout, split=source.split, column=source.column, option="--holdout"
        )
    )
    text = _joined(documents)
    if is_part(held_out, text) or is_part(text, held_out):
        raise DataError(
            "`--holdout` must be other text than `--data`, and of "
            f"{quoted(source.holdout)} and {quoted(source.data)} one holds most of the other; "
            "give other text, or none to hold out one half"
        )
    return (
        _Part(text=text, name=quoted(source.data)),
        _Part(text=held_out, name=quoted(source.holdout)),
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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stock:
    """Windows to draw from."""

    name: str
    """Of the text."""
    counts: Mapping[str, int]
    """How many are drawn for each set."""
    rows: NDArray[np.int64]
    """``(windows, tokens)`` of the text."""


class _Draw:
    """Draws windows of one length from parts of a text, none of which repeats another."""

    def __init__(self, vocabulary: Vocabulary, tokens: int, rng: np.random.Generator) -> None:
        self._vocabulary, self._tokens, self._rng = vocabulary, tokens, rng
        self._prefix = vocabulary.prefix()
        self._seen = Seen()
        self.repeated = 0
        """Windows left out, for they repeat others."""
        if len(self._prefix) >= tokens:
            raise DataError(
                f"`--window_tokens` must be more than the {len(self._prefix)} tokens that the "
                f"tokenizer puts before every text, got {tokens}; raise it"
            )

    def stock(self, part: _Part, counts: Mapping[str, int]) -> _Stock:
        """Cut a text into windows.

        Args:
            part: The text.
            counts: Windows of each set that it must suffice for, by what messages call it.

        Raises:
            DataError: If it does not.
        """
        start = int(self._rng.integers(max(1, len(part.text) - LONGEST_TEXT + 1)))
        ids = self._vocabulary.ids(part.text[start : start + LONGEST_TEXT], part.name)
        body = self._tokens - len(self._prefix)
        available = len(ids) // body
        rows = ids[: available * body].reshape(available, body)
        stock = _Stock(name=part.name, counts=counts, rows=rows)
        if available < sum(counts.values()):
            raise self._shortage(stock, f"{len(ids):,}", "more")
        return stock

    def __call__(self, stock: _Stock, spare: int = 0) -> list[Tensor]:
        """Draw one set of windows for each count, and spare ones, ``(windows, tokens)`` each.

        Raises:
            DataError: If too few are unlike each other.
        """
        total = sum(stock.counts.values())
        order = self._rng.permutation(len(stock.rows))
        windows = self._unlike(stock.rows[order], total + spare)
        if len(windows) < total:
            raise self._shortage(stock, f"{len(windows)} windows that differ", "other")
        return list(torch.split(windows, [*stock.counts.values(), len(windows) - total]))

    def _unlike(self, rows: NDArray[np.int64], count: int) -> Tensor:
        """Return up to so many windows, of the first rows that are unlike all before them."""
        prefix = np.array(self._prefix, dtype=np.int64)
        chosen: list[NDArray[np.int64]] = []
        for row in rows:
            if len(chosen) == count:
                break
            if self._seen.is_new(row):
                chosen.append(np.concatenate([prefix, row]))
            else:
                self.repeated += 1
        return torch.from_numpy(
            np.stack(chosen) if chosen else np.empty((0, self._tokens), np.int64)
        )

    def _shortage(self, stock: _Stock, held: str, other: str) -> DataError:
        asked = {name: count for name, count in stock.counts.items() if count}
        windows = " + ".join(f"{count} {name}" for name, count in asked.items())
        needed = sum(asked.values()) * (self._tokens - len(self._prefix))
        return DataError(
            f"{windows} windows of {self._tokens} tokens share no text and need {needed:,} tokens "
            f"of {stock.name}, which holds {held}; give {other} text, or lower "
            f"{', '.join(f'`--{name}_windows`' for name in asked)} or `--window_tokens`"
        )
