"""Tokenizers give llama.cpp the tokens that they give themselves, or are refused."""

from pathlib import Path

import pytest
from gguf import GGUFReader, GGUFWriter, TokenType
from transformers import PreTrainedTokenizerBase

from planner.targets.gguf import gguf_vocabulary
from planner.targets.gguf.gguf_runtime import tokenize
from planner.targets.gguf.gguf_vocabulary import Vocabulary, tokenizer_refusal, vocabulary_of
from search_spaces.errors import MissingExtraError, TargetError
from tests.models.factory import VOCABULARY
from tests.models.merging_tokenizers import CHAT_TEMPLATE, of_bytes, of_characters

TEXTS = (
    "the inner theatre, 12 times 1234!",
    "  there\nin a <s>tin</s> tea\n\nat 7.",
    "ther'll 'tis a1b22",
)


@pytest.mark.parametrize(
    ("tokenizer", "size", "model"),
    [
        (of_bytes(), VOCABULARY, "gpt2"),
        (of_bytes(digits_apart=True), VOCABULARY, "gpt2"),
        (of_characters(), 320, "llama"),
    ],
)
def test_tokens_are_those_of_the_tokenizer(
    tokenizer: PreTrainedTokenizerBase, size: int, model: str, tmp_path: Path
) -> None:
    vocabulary = vocabulary_of(tokenizer, size)
    path = tmp_path / "vocabulary.gguf"
    gguf_vocabulary.write_zeros(path, vocabulary)
    assert vocabulary.model == model
    assert tokenize(path, TEXTS) == [list(tokenizer(text).input_ids) for text in TEXTS]


def test_a_way_to_split_text_is_found_that_tells_digits_from_numbers() -> None:
    together, apart = vocabulary_of(of_bytes(), 96), vocabulary_of(of_bytes(digits_apart=True), 96)
    assert together.split != apart.split


def test_all_that_a_file_says_of_a_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.gguf"
    vocabulary = vocabulary_of(of_characters(), 320)
    gguf_vocabulary.write_zeros(path, vocabulary)
    fields = {name: field.contents() for name, field in GGUFReader(path).fields.items()}
    assert fields["tokenizer.chat_template"] == CHAT_TEMPLATE
    assert fields["tokenizer.ggml.bos_token_id"] == 1
    assert fields["tokenizer.ggml.eos_token_id"] == 2
    assert fields["tokenizer.ggml.padding_token_id"] == 3
    assert fields["tokenizer.ggml.add_bos_token"] is True
    assert fields["tokenizer.ggml.add_eos_token"] is False
    assert fields["tokenizer.ggml.add_space_prefix"] is True
    for name in ("tokens", "scores", "token_type"):
        assert len(fields[f"tokenizer.ggml.{name}"]) == 320
    kinds = fields["tokenizer.ggml.token_type"]
    assert kinds[:5] == [
        TokenType.UNKNOWN,
        *[TokenType.CONTROL] * 3,
        TokenType.BYTE,
    ]
    assert kinds[-1] == TokenType.UNUSED
    assert fields["tokenizer.ggml.tokens"][-1] == "[PAD319]"


def test_a_tokenizer_of_words_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(TargetError, match=r"must merge pairs \(BPE\).* and this is a WordLevel"):
        vocabulary_of(tokenizer, VOCABULARY)


def test_a_tokenizer_of_more_tokens_than_the_embedding_has_is_refused() -> None:
    with pytest.raises(TargetError, match="token 52 has no row among the 50"):
        vocabulary_of(of_bytes(), 50)


def test_a_tokenizer_without_some_bytes_is_refused_before_llama_cpp_aborts() -> None:
    with pytest.raises(TargetError, match=r"each of the 256, .* this has 9"):
        vocabulary_of(of_characters(byte_count=9), VOCABULARY)


def test_two_tokens_of_one_text_are_refused_before_llama_cpp_aborts() -> None:
    tokenizer = of_bytes()
    tokenizer.add_tokens("[PAD60]")
    with pytest.raises(TargetError, match=r"text of its own, .* `\[PAD60\]` is that of several"):
        vocabulary_of(tokenizer, 64)


def test_a_tokenizer_that_splits_text_in_no_known_way_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gguf_vocabulary, "_SPLITS", ("chameleon", "no-such-way"))
    with pytest.raises(TargetError, match="none of the ways in which that splits text"):
        vocabulary_of(of_bytes(), VOCABULARY)


def test_several_chat_templates_leave_the_usual_one() -> None:
    tokenizer = of_bytes()
    tokenizer.chat_template = {"tools": "t", "default": "d"}
    assert vocabulary_of(tokenizer, VOCABULARY).chat_template == "d"


def test_what_is_not_known_is_not_said(tmp_path: Path) -> None:
    path = tmp_path / "bare.gguf"
    writer = GGUFWriter(path, "llama")
    Vocabulary(model="gpt2", tokens=["a"], types=[TokenType.NORMAL]).write(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    said = GGUFReader(path).fields
    assert not {"tokenizer.chat_template", "tokenizer.ggml.bos_token_id"} & set(said)
    assert not {"tokenizer.ggml.merges", "tokenizer.ggml.scores"} & set(said)


def test_what_is_refused_is_known_without_llama_cpp_as_far_as_it_can_be(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_path: Path, _texts: object) -> list[list[int]]:
        raise MissingExtraError("cyllama", "gguf", "running a GGUF file")

    monkeypatch.setattr(gguf_vocabulary, "tokenize", missing)
    with pytest.raises(MissingExtraError):
        vocabulary_of(of_bytes(), VOCABULARY)
    assert not tokenizer_refusal(of_bytes(), VOCABULARY)
    assert tokenizer_refusal(tokenizer, VOCABULARY).endswith("and this is a WordLevel")
