"""A written tokenizer loads as the original does, with trust only where it brings code."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from planner.targets.hf.tokenizer_files import check_tokenizer, write_tokenizer
from search_spaces.errors import VerificationError
from tests.models import factory

CODE = """
from transformers import PreTrainedTokenizerFast


class Own(PreTrainedTokenizerFast):
    pass
"""
TEMPLATES = {"default": "{{ messages }}", "tool_use": "tools", "a/../../b": "{{ '../x' }}"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    factory.write_tokenizer(folder)
    return folder


def changed(folder: Path, **values: Any) -> Path:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


def written(source: Path, *, trust: bool = False) -> tuple[Path, bool, Any]:
    make: Any = AutoTokenizer.from_pretrained
    tokenizer = make(source, trust_remote_code=trust)
    folder = source.parent / "out"
    needs_code = write_tokenizer(folder, tokenizer)
    check_tokenizer(folder, LlamaConfig(), tokenizer)
    return folder, needs_code, make(folder, trust_remote_code=needs_code)


def test_all_chat_templates_are_kept_whatever_their_names(source: Path) -> None:
    named = [{"name": name, "template": text} for name, text in TEMPLATES.items()]
    folder, needs_code, again = written(changed(source, chat_template=named))
    assert again.chat_template == TEMPLATES
    assert not needs_code
    assert all(path.parent == folder for path in folder.rglob("*"))


def test_a_single_chat_template_is_kept(source: Path) -> None:
    folder, _, again = written(changed(source, chat_template="{{ messages }}"))
    assert again.chat_template == (folder / "chat_template.jinja").read_text() == "{{ messages }}"


def test_code_that_was_not_trusted_is_not_named(source: Path) -> None:
    changed(source, auto_map={"AutoTokenizer": [None, "gone.Own"]})
    folder, needs_code, again = written(source)
    assert not needs_code
    assert "gone" not in (folder / "tokenizer_config.json").read_text(encoding="utf-8")
    assert again("w3 w95").input_ids == [3, 95]


def test_code_that_was_trusted_is_brought(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = tmp_path / "modules"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(modules))
    monkeypatch.setattr(sys, "path", [*sys.path])
    (source / "own_tokens.py").write_text(CODE, encoding="utf-8")
    changed(source, tokenizer_class="Own", auto_map={"AutoTokenizer": [None, "own_tokens.Own"]})
    folder, needs_code, again = written(source, trust=True)
    assert needs_code
    assert (folder / "own_tokens.py").is_file()
    assert type(again).__name__ == "Own"


def test_older_readers_find_names_that_they_know(source: Path) -> None:
    changed(source, tokenizer_class="TokenizersBackend", extra_special_tokens=["w7"])
    folder, _, again = written(source)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["additional_special_tokens"] == ["w7"]
    assert "extra_special_tokens" not in config
    assert "w7" in again.all_special_tokens


def test_other_tokens_are_noticed(source: Path, tmp_path: Path) -> None:
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(source)
    folder = tmp_path / "out"
    write_tokenizer(folder, tokenizer)
    path = folder / "tokenizer.json"
    swapped = path.read_text(encoding="utf-8").replace('"w7": 7', '"w7": 8')
    path.write_text(swapped.replace('"w8": 8', '"w8": 7'), encoding="utf-8")
    with pytest.raises(VerificationError, match="must give the tokens of the original"):
        check_tokenizer(folder, LlamaConfig(), tokenizer)
