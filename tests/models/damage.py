"""Doing harm to a saved model, and what is said of it then."""

import json
from pathlib import Path

import pytest

from search_spaces.errors import ModelError
from search_spaces.models.loading import load_model

PLANTED_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
Path(__MARK__).touch()
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
def generate(*_, **__):
    pass
"""
"""Code of a model's folder that leaves a mark where it runs; ``__MARK__`` is to be replaced."""


def edit_json(path: Path, **values: object) -> None:
    """Change values of a JSON file, which may not be there yet."""
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**held, **values}), encoding="utf-8")


def said_of(name: str | Path) -> str:
    """Return the sentence by which a model is refused: short, and in one line."""
    with pytest.raises(ModelError) as refused:
        load_model(str(name))
    said = str(refused.value)
    assert len(said) <= 300, len(said)
    assert "\n" not in said
    return said
