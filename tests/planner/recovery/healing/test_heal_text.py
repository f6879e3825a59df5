"""Text to train on comes round after round, in an order of its seed, without what is measured."""

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from evaluators.data.text_samples import Vocabulary
from planner.recovery.healing import heal_text
from planner.recovery.healing.heal_text import HealText, Measured
from search_spaces.errors import DataError
from tests.models.factory import VOCABULARY

TOKENS = 20
OTHER = torch.full((1, TOKENS), 3)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards in a short text."""
    monkeypatch.setattr(heal_text, "_SHARD_CHARACTERS", 1000)


def _ids(count: int = 1000) -> list[int]:
    return list(map(int, np.random.default_rng(0).integers(4, VOCABULARY, count)))


def _text(tokenizer: PreTrainedTokenizerBase, measured: Tensor = OTHER, seed: int = 0) -> HealText:
    return HealText(
        documents=[" ".join(f"w{number}" for number in _ids())],
        name="some text",
        vocabulary=Vocabulary(tokenizer=tokenizer, embedding_rows=VOCABULARY),
        tokens=TOKENS,
        measured=Measured([measured]),
        seed=seed,
    )


def _rows(windows: Tensor) -> list[tuple[int, ...]]:
    return [tuple(row) for row in windows.tolist()]


def _round(text: HealText) -> list[tuple[int, ...]]:
    """Windows until one comes again."""
    seen: list[tuple[int, ...]] = []
    while (row := _rows(text.read(len(seen), 1))[0]) not in seen:
        seen.append(row)
    return seen


def test_a_round_holds_each_window_once_and_the_next_is_in_another_order(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    text = _text(tokenizer)
    first = _round(text)
    assert 40 <= len(first) <= 50  # of 1,000 tokens, and each shard loses what is left over
    second = _rows(text.read(len(first), len(first)))
    assert sorted(second) == sorted(first)
    assert second != first
    words = " ".join(map(str, _ids()))
    assert all(" ".join(map(str, row)) in words for row in first)


def test_reading_does_not_depend_on_what_was_read_before(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """So that a training that was killed reads what it would have read."""
    text = _text(tokenizer)
    whole = _rows(text.read(0, 130))
    assert _rows(_text(tokenizer).read(97, 33)) == whole[97:]
    assert _rows(text.read(5, 7)) == whole[5:12]


def test_another_seed_is_another_order(tokenizer: PreTrainedTokenizerBase) -> None:
    first, other = (_rows(_text(tokenizer, seed=seed).read(0, 40)) for seed in (0, 1))
    assert first != other


def test_windows_with_a_passage_of_what_is_measured_are_left_out(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    windows = _round(_text(tokenizer))
    copied = torch.tensor(windows[7])
    measured = OTHER.repeat(2, 1)
    measured[1, 4:] = copied[:16]  # of a window, sixteen in a row elsewhere
    text = _text(tokenizer, measured)
    left = _round(text)
    assert set(windows) - set(left) == {windows[7]}
    assert text.left_out == 1


def test_fifteen_tokens_in_a_row_are_no_passage(tokenizer: PreTrainedTokenizerBase) -> None:
    windows = _round(_text(tokenizer))
    measured = OTHER.clone()
    measured[0, 5:] = torch.tensor(windows[7])[:15]
    assert windows[7] in _round(_text(tokenizer, measured))


def test_text_of_nothing_but_what_is_measured_is_refused(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    windows = torch.tensor(_round(_text(tokenizer)))
    with pytest.raises(DataError, match=rf"holds 0 besides {len(windows)} that overlap"):
        _text(tokenizer, windows).check(1)
