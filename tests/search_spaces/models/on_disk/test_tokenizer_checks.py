"""A tokenizer that cannot be read is refused by its file, or by the package that would read it."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import GPT2Tokenizer

from search_spaces.models.on_disk import tokenizer_checks
from tests.models.damage import edit_json, said_of


def without_tokenizer(folder: Path) -> Path:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    return folder


def test_a_folder_without_one(llama_copy: Path) -> None:
    said = said_of(without_tokenizer(llama_copy))
    assert "must come with its tokenizer" in said
    assert "lacks `tokenizer.json` (or `tokenizer.model`)" in said


def test_a_folder_with_its_settings_alone(llama_copy: Path) -> None:
    (llama_copy / "tokenizer.json").unlink()
    assert "lacks `tokenizer.json`" in said_of(llama_copy)


def test_a_template_of_another_encoding_is_named(llama_copy: Path) -> None:
    (llama_copy / "chat_template.jinja").write_bytes(b"{{ '\xe9' }}")
    assert "chat_template.jinja` must be text, and it is not UTF-8" in said_of(llama_copy)


@pytest.mark.parametrize(
    ("name", "content", "package"),
    [
        ("tokenizer.model", b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02", "sentencepiece"),
        ("tokenizer.model", b"IQ== 0\nIg== 1\n", "tiktoken"),
    ],
)
def test_a_vocabulary_whose_package_is_absent(
    name: str, content: bytes, package: str, llama_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = {"sentencepiece", "tiktoken"}
    monkeypatch.setattr(
        tokenizer_checks, "find_spec", lambda each: None if each in absent else find_spec(each)
    )
    (without_tokenizer(llama_copy) / name).write_bytes(content)
    edit_json(llama_copy / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    assert f"install it, `pip install {package}`" in said_of(llama_copy)


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        ({"tokenizer.json"}, ["tokenizer.json"]),
        ({"vocab.json", "merges.txt"}, ["tokenizer.json", "merges.txt"]),
        ({"tokenizer.model"}, ["tokenizer.json", "merges.txt", "tokenizer.model"]),
    ],
)
def test_a_model_on_the_hub_is_asked_for_no_more_files_than_needed(
    held: set[str], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def find(_source: str, name: str) -> Path | None:
        names.append(name)
        return Path(name) if name in held else None

    monkeypatch.setattr(tokenizer_checks, "find_file", find)
    assert tokenizer_checks.missing_tokenizer("org/model", GPT2Tokenizer) is None
    assert names == asked
    held.clear()
    held.add("vocab.json")
    said = str(tokenizer_checks.missing_tokenizer("org/model", GPT2Tokenizer))
    assert "lacks `merges.txt`" in said


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("tokenizer.json", "", "is empty"),
        ("tokenizer.json", "{}", "get `tokenizer.json` and `tokenizer_config.json` again"),
        ("tokenizer_config.json", "[]", "holds a list"),
        ("tokenizer_config.json", '{"tokenizer_class": 7}', "`tokenizer_class` in the token"),
        ("tokenizer_config.json", '{"auto_map": {"AutoTokenizer": 7}}', "`auto_map` in the token"),
        (
            "tokenizer_config.json",
            '{"a": 1, "model_max_length": "x"}',
            "got `'x'`; correct it",
        ),
        ("special_tokens_map.json", "{", "breaks off or errs in line 1"),
        ("added_tokens.json", "3", "holds a number"),
        ("tokenizer_config.json", '{"model_max_length": "x"}', "`model_max_length` in the token"),
    ],
)
def test_a_damaged_file_is_named(name: str, text: str, said: str, llama_copy: Path) -> None:
    (llama_copy / name).write_text(text, encoding="utf-8")
    assert said in said_of(llama_copy)
