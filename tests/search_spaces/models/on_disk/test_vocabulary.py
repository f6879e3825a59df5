import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from search_spaces.errors import ModelError
from search_spaces.models.loading import load_model
from search_spaces.models.on_disk.vocabulary import check_vocabulary, embedding_rows
from search_spaces.structure.model import ModelStructure
from tests.models.factory import VOCABULARY, write_tokenizer


def changed(folder: Path, **parts: Any) -> PreTrainedTokenizerBase:
    """Return the tests' tokenizer with parts of its file changed."""
    write_tokenizer(folder)
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    for name, part in parts.items():
        values[name] = part(values[name])
    path.write_text(json.dumps(values))
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return loaded


def larger(model: dict[str, Any]) -> dict[str, Any]:
    words = {word: index + 400 if index > 90 else index for word, index in model["vocab"].items()}
    return {**model, "vocab": words}


def added(content: str, index: int, *, special: bool) -> dict[str, Any]:
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    return {"id": index, "content": content, "special": special, **dict.fromkeys(flags, False)}


def test_the_rows_of_an_embedding_are_counted(llama: ModelStructure) -> None:
    assert embedding_rows(llama.backbone.model) == VOCABULARY


def test_a_tokenizer_of_the_models_is_taken_without_a_word(
    llama: ModelStructure, tokenizer: PreTrainedTokenizerBase, notices: list[str]
) -> None:
    check_vocabulary("m", tokenizer, llama.backbone.model)
    assert notices == []


def test_words_beyond_the_embedding_are_refused_with_both_sizes(
    llama: ModelStructure, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        check_vocabulary("m", changed(tmp_path, model=larger), llama.backbone.model)
    assert str(caught.value) == (
        "token ids must lie in the model's embedding, and the tokenizer of `m` has ids up to 495 "
        "where the embedding has 96 rows; get the tokenizer that belongs to the model, or resize "
        "its embedding"
    )


def test_loading_a_model_looks_at_its_tokenizer(saved_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved_llama, tmp_path / "model"))
    changed(folder, model=larger)
    with pytest.raises(ModelError, match="ids up to 495 where the embedding has 96 rows"):
        load_model(str(folder))


def test_added_words_beyond_the_embedding_are_refused(
    llama: ModelStructure, tmp_path: Path
) -> None:
    found = changed(
        tmp_path, added_tokens=lambda tokens: [*tokens, added("word", 96, special=False)]
    )
    with pytest.raises(ModelError, match="ids up to 96 where the embedding has 96 rows"):
        check_vocabulary("m", found, llama.backbone.model)


def test_special_tokens_beyond_the_embedding_are_named_once(
    llama: ModelStructure, tmp_path: Path, notices: list[str]
) -> None:
    found = changed(
        tmp_path, added_tokens=lambda tokens: [*tokens, added("<image>", 96, special=True)]
    )
    check_vocabulary("m", found, llama.backbone.model)
    assert len(notices) == 1
    assert "ids up to 96, beyond the 96 rows" in notices[0]


def test_what_stands_before_every_text_must_be_in_the_embedding(
    llama: ModelStructure, tmp_path: Path
) -> None:
    def begin(_none: object) -> dict[str, Any]:
        first = {"SpecialToken": {"id": "<begin>", "type_id": 0}}
        return {
            "type": "TemplateProcessing",
            "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": letter, "type_id": 0}} for letter in "AB"],
            "special_tokens": {"<begin>": {"id": "<begin>", "ids": [96], "tokens": ["<begin>"]}},
        }

    found = changed(
        tmp_path,
        added_tokens=lambda tokens: [*tokens, added("<begin>", 96, special=True)],
        post_processor=begin,
    )
    with pytest.raises(ModelError, match="ids up to 96 where the embedding has 96 rows"):
        check_vocabulary("m", found, llama.backbone.model)
