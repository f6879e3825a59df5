import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from evaluators.data.text_samples import TextSource, Vocabulary, from_text
from evaluators.data.windows import DRAWS, Calibration, Windows
from search_spaces.errors import DataError, quoted
from tests.evaluators.data.calibrations import every_window

WORDS = 4000
BEGIN = WORDS
WINDOWS = Windows(statistics=8, search=6, fresh=7, holdout=5, tokens=20)


@cache
def tokenizer(*, begin: bool = False) -> PreTrainedTokenizerFast:
    """Word ``w17`` is token 17; every letter and Chinese character has a token of its own."""
    vocabulary = {f"w{number}": number for number in range(WORDS)} | {"<s>": BEGIN, "?": BEGIN + 1}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    if begin:
        plain.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", BEGIN)]
        )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=plain, bos_token="<s>", unk_token="?"
    )


def vocabulary(*, begin: bool = False, embedding_rows: int = WORDS + 2) -> Vocabulary:
    return Vocabulary(tokenizer=tokenizer(begin=begin), embedding_rows=embedding_rows)


def words(start: int, stop: int) -> str:
    return " ".join(f"w{number}" for number in range(start, stop))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Every word once, in order: a token is its own place in the text."""
    path = tmp_path / "corpus.txt"
    path.write_text(words(0, WORDS))
    return path


def drawn(
    path: Path,
    windows: Windows = WINDOWS,
    *,
    holdout: Path | None = None,
    seed: int = 0,
    begin: bool = False,
) -> Calibration:
    rng = np.random.default_rng(seed)
    source = TextSource(data=str(path), holdout=None if holdout is None else str(holdout))
    return from_text(source, vocabulary(begin=begin), windows, rng=rng)


def is_run(window: Tensor) -> bool:
    return bool((window.diff() == 1).all())


def test_windows_are_runs_of_the_text_of_the_asked_number_and_length(text: Path) -> None:
    found = drawn(text)
    assert found.statistics.shape == (8, 20)
    assert found.search.shape == (6, 20)
    assert found.fresh.shape == (7, 20)
    assert found.holdout.shape == (5, 20)
    assert all(is_run(window) for window in every_window(found))
    assert found.source == str(text)


@pytest.mark.parametrize("seed", range(5))
def test_only_the_holdout_lies_in_the_second_half_and_no_token_is_drawn_twice(
    text: Path, seed: int
) -> None:
    found = drawn(text, seed=seed)
    # the cut is in the middle of the characters, a little after word 2000
    first = torch.cat([found.statistics, found.search, found.fresh])
    assert first.max() < 2100 < found.holdout.min()
    tokens = every_window(found).flatten().tolist()
    assert len(set(tokens)) == len(tokens)


def test_the_cut_falls_between_documents_that_end_near_the_middle(tmp_path: Path) -> None:
    for name, part in (("a", words(0, 1800)), ("b", words(1800, 1850)), ("c", words(1850, WORDS))):
        (tmp_path / f"{name}.txt").write_text(part)
    found = drawn(tmp_path, Windows(statistics=0, search=50, fresh=40, holdout=90, tokens=20))
    # of the two borders the one after document b is nearer; nothing before it is held out
    assert max(found.search.max(), found.fresh.max()) < 1850 <= found.holdout.min()


def test_a_text_without_spaces_is_cut_too(tmp_path: Path) -> None:
    signs = [chr(0x4E00 + index) for index in range(80)]
    (tmp_path / "a.txt").write_text("".join(signs[:40]) + "\n" + "".join(signs[40:]))
    lone = Tokenizer(
        models.WordLevel({sign: index for index, sign in enumerate([*signs, "?"])}, "?")
    )
    lone.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made = PreTrainedTokenizerFast(tokenizer_object=lone, unk_token="?")  # type: ignore[no-untyped-call]
    found = from_text(
        TextSource(data=str(tmp_path / "a.txt")),
        Vocabulary(tokenizer=made, embedding_rows=81),
        Windows(statistics=1, search=1, fresh=1, holdout=3, tokens=10),
        rng=np.random.default_rng(0),
    )
    lengths = [len(getattr(found, name)) for name in DRAWS]
    assert lengths == [1, 1, 1, 3]


def test_the_same_seed_draws_the_same_windows_and_another_seed_others(text: Path) -> None:
    first, again, other = (drawn(text, seed=seed) for seed in (3, 3, 4))
    for name in DRAWS:
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_what_a_tokenizer_puts_before_a_text_stands_before_every_window(text: Path) -> None:
    found = drawn(text, begin=True)
    windows = every_window(found)
    assert (windows[:, 0] == BEGIN).all()
    assert all(is_run(window) for window in windows[:, 1:])
    assert (windows[:, 1:] < BEGIN).all()


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """Two documents of 100 words."""
    for half in (0, 1):
        (tmp_path / f"{half}.txt").write_text(words(100 * half, 100 * half + 100))
    return tmp_path


def test_too_short_a_text_is_refused_with_what_is_needed_and_what_there_is(halves: Path) -> None:
    with pytest.raises(DataError) as caught:
        drawn(halves)
    assert str(caught.value) == (
        "8 calibration + 6 search + 7 fresh windows of 20 tokens share no text and need 420 "
        "tokens of one half of the text, which holds 100; give more text, or lower "
        "`--calibration_windows`, `--search_windows`, `--fresh_windows` or `--window_tokens`"
    )
    with pytest.raises(DataError) as caught:
        drawn(halves, Windows(statistics=1, search=2, fresh=2, holdout=6, tokens=20))
    assert str(caught.value) == (
        "6 holdout windows of 20 tokens share no text and need 120 tokens of one half of the "
        "text, which holds 100; give more text, or lower `--holdout_windows` or `--window_tokens`"
    )


def test_what_is_needed_counts_no_tokens_that_the_tokenizer_adds(halves: Path) -> None:
    asked = Windows(statistics=2, search=2, fresh=1, holdout=5, tokens=21)
    assert drawn(halves, asked, begin=True).search.shape == (2, 21)
    with pytest.raises(DataError, match=r"need 120 tokens of .* which holds 100"):
        drawn(halves, replace(asked, fresh=2), begin=True)


def test_calibration_takes_what_text_is_left_down_to_the_fewest_windows(halves: Path) -> None:
    asked = Windows(
        statistics=50, fewest_statistics=2, search=1, fresh=1, holdout=5, tokens=20
    )  # fmt: skip
    assert len(drawn(halves, asked).statistics) == 3
    assert len(drawn(halves, replace(asked, fresh=2)).statistics) == 2
    with pytest.raises(DataError, match=r"2 calibration \+ 1 search \+ 3 fresh windows"):
        drawn(halves, replace(asked, fresh=3))


def test_text_held_out_leaves_all_of_the_other_to_the_search(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(words(0, 200))
    (tmp_path / "b.txt").write_text(words(200, 300))
    # 200 words hold ten windows of 20, and 100 words five: nothing is left over
    asked = Windows(statistics=1, search=5, fresh=4, holdout=5, tokens=20)
    found = drawn(tmp_path / "a.txt", asked, holdout=tmp_path / "b.txt")
    others = torch.cat([found.statistics, found.search, found.fresh])
    assert sorted(others.flatten().tolist()) == [*range(200)]
    assert sorted(found.holdout.flatten().tolist()) == [*range(200, 300)]
    assert found.source == f"{tmp_path / 'a.txt'}, held out {tmp_path / 'b.txt'}"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            Windows(statistics=0, search=6, fresh=5, holdout=5, tokens=20),
            "6 search + 5 fresh windows of 20 tokens share no text and need 220 tokens of `{a}`, "
            "which holds 200; give more text, or lower `--search_windows`, `--fresh_windows` or "
            "`--window_tokens`",
        ),
        (
            Windows(statistics=0, search=6, fresh=4, holdout=6, tokens=20),
            "6 holdout windows of 20 tokens share no text and need 120 tokens of `{b}`, which "
            "holds 100; give more text, or lower `--holdout_windows` or `--window_tokens`",
        ),
    ],
)
def test_too_short_a_text_of_two_is_named(tmp_path: Path, asked: Windows, said: str) -> None:
    (tmp_path / "a.txt").write_text(words(0, 200))
    (tmp_path / "b.txt").write_text(words(200, 300))
    with pytest.raises(DataError) as caught:
        drawn(tmp_path / "a.txt", asked, holdout=tmp_path / "b.txt")
    names = {name: quoted(str(tmp_path / f"{name}.txt")) for name in "ab"}
    assert str(caught.value) == said.replace("`{a}`", names["a"]).replace("`{b}`", names["b"])
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    ("data", "holdout"),
    [
        ("a.txt", "copy.txt"),  # the same words in another file
        ("a.txt", "a.json"),  # and in another format, spaced otherwise
        (".", "a.txt"),  # a folder and one of its files
        ("a.txt", "."),
        ("a.txt", "middle.txt"),  # an excerpt
    ],
)
def test_text_that_is_searched_on_cannot_be_held_out(
    text: Path, tmp_path: Path, data: str, holdout: str
) -> None:
    folder = tmp_path / ("long" * 20)  # both names are as long as a message shows them
    folder.mkdir()
    (folder / "a.txt").write_text(text.read_text())
    (folder / "copy.txt").write_text(text.read_text() + "\n")
    lines = [words(start, start + 50) for start in range(0, WORDS, 50)]
    (folder / "a.json").write_text(json.dumps([{"text": line} for line in lines]))
    (folder / "middle.txt").write_text(words(1000, 2000))
    with pytest.raises(DataError) as caught:
        drawn(folder / data, holdout=folder / holdout)
    assert "`--holdout` must be other text than `--data`" in str(caught.value)
    assert len(str(caught.value)) <= 300


def test_exactly_enough_text_is_enough(halves: Path) -> None:
    enough = Windows(statistics=1, search=2, fresh=2, holdout=5, tokens=20)
    drawn(halves, enough)
    for name in ("statistics", "search", "fresh", "holdout", "tokens"):
        with pytest.raises(DataError):
            drawn(halves, replace(enough, **{name: getattr(enough, name) + 1}))


def windows_of(found: Calibration) -> list[tuple[int, ...]]:
    return [tuple(window.tolist()) for window in every_window(found)]


@pytest.mark.parametrize("seed", range(4))
def test_windows_that_repeat_others_are_left_out_and_counted(
    tmp_path: Path, seed: int, notices: list[str]
) -> None:
    # ten windows, each four times over, then as many that occur once
    often, once = words(0, 200), words(200, 1000)
    (tmp_path / "a.txt").write_text(" ".join([often] * 4 + [once] + [often] * 2))
    asked = Windows(
        statistics=40, fewest_statistics=4, search=6, fresh=5, holdout=9, tokens=20
    )  # fmt: skip
    found = drawn(tmp_path / "a.txt", asked, seed=seed)
    assert [len(part) for part in (found.search, found.fresh, found.holdout)] == [6, 5, 9]
    drawn_ones = windows_of(found)
    assert len(set(drawn_ones)) == len(drawn_ones)
    assert any(re.fullmatch(r"\d+ windows of the text that repeat .*", line) for line in notices)


def test_text_without_repetition_is_drawn_as_if_nobody_looked(
    text: Path, notices: list[str]
) -> None:
    found = drawn(text, seed=3)
    # the same random numbers, used by hand
    rng = np.random.default_rng(3)
    border = text.read_text().find(" ", len(text.read_text()) // 2)
    halves = [len(half.split()) for half in (text.read_text()[:border], text.read_text()[border:])]
    rng.integers(1), rng.integers(1)
    held_out = rng.permutation(halves[1] // 20)
    assert found.holdout[:, 0].tolist() == (halves[0] + held_out[:5] * 20).tolist()
    order = rng.permutation(halves[0] // 20) * 20
    assert found.statistics[:, 0].tolist() == order[:8].tolist()
    assert found.search[:, 0].tolist() == order[8:14].tolist()
    assert found.fresh[:, 0].tolist() == order[14:21].tolist()
    assert notices == []


def test_text_that_repeats_itself_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" ".join([words(0, 80)] * 40))
    with pytest.raises(DataError) as caught:
        drawn(tmp_path / "a.txt")
    assert str(caught.value) == (
        "5 holdout windows of 20 tokens share no text and need 100 tokens of one half of the "
        "text, which holds 4 windows that differ; give other text, or lower `--holdout_windows` "
        "or `--window_tokens`"
    )


def test_a_passage_that_stands_twice_is_in_one_draw_however_it_is_cut(tmp_path: Path) -> None:
    # the second half repeats the first, seven words later: no window is cut alike
    (tmp_path / "a.txt").write_text(f"{words(0, 1000)} {words(2000, 2007)} {words(0, 1000)}")
    asked = Windows(
        statistics=99, fewest_statistics=4, search=4, fresh=4, holdout=4, tokens=40
    )  # fmt: skip
    found = drawn(tmp_path / "a.txt", asked)
    held_out = set(found.holdout.flatten().tolist())
    for name in ("statistics", "search", "fresh"):
        for window in getattr(found, name).tolist():
            assert len(held_out & {*window}) <= 28  # half of its runs of 16, and their length


def test_no_window_is_both_searched_on_and_held_out_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(words(0, 300))
    (tmp_path / "b.txt").write_text(words(200, 500))
    asked = Windows(
        statistics=15, fewest_statistics=2, search=2, fresh=2, holdout=15, tokens=20
    )  # fmt: skip
    found = drawn(tmp_path / "a.txt", asked, holdout=tmp_path / "b.txt")
    drawn_ones = windows_of(found)
    # all of the second is held out, and what both hold is not searched on
    assert [len(getattr(found, name)) for name in DRAWS] == [6, 2, 2, 15]
    assert len(set(drawn_ones)) == len(drawn_ones)


def test_text_that_holds_a_token_beyond_the_embedding_is_refused(text: Path) -> None:
    source = TextSource(data=str(text))
    with pytest.raises(DataError) as caught:
        from_text(source, vocabulary(embedding_rows=500), WINDOWS, rng=np.random.default_rng(0))
    message = str(caught.value)
    assert re.search(r"embedding of 500 rows, .* holds `w20\d\d`, token 20\d\d of", message)
    assert len(message) <= 300


def test_a_tokenizer_that_knows_no_word_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("none of these is known " * 200)
    with pytest.raises(DataError, match=r"must tell words apart, and all of .* is `\?` to it"):
        drawn(tmp_path / "a.txt")


def test_a_tokenizer_that_panics_over_a_text_is_refused() -> None:
    lone = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    lone.normalizer = normalizers.Replace(Regex("(a+)+$"), "x")  # which takes too long
    made = PreTrainedTokenizerFast(tokenizer_object=lone)  # type: ignore[no-untyped-call]
    with pytest.raises(DataError, match="tokenizer must take any text"):
        Vocabulary(tokenizer=made, embedding_rows=2).ids("a" * 40 + "!", "`a.txt`")


def test_a_tokenizer_that_fails_over_a_word_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("unknown words")
    lone = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="<absent>"))
    made = PreTrainedTokenizerFast(tokenizer_object=lone)  # type: ignore[no-untyped-call]
    source = TextSource(data=str(tmp_path / "a.txt"))
    known = Vocabulary(tokenizer=made, embedding_rows=2)
    with pytest.raises(DataError, match="tokenizer must take any text, and cannot take one half"):
        from_text(source, known, WINDOWS, rng=np.random.default_rng(0))
