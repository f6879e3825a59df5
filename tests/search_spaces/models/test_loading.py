"""A sound folder loads; whatever is wrong with one is said in a sentence."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    Gemma2Config,
    LlamaConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from search_spaces.errors import ModelError, OutputError
from search_spaces.models.gguf import cache_folder
from search_spaces.models.loading import load_model
from search_spaces.reading.read import read_structure
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import random_tokens
from tests.models.factory import GROUPED, VOCABULARY, make_model, write_tokenizer
from tests.models.parts import attention_of


@pytest.fixture
def folder(saved_llama: Path, tmp_path: Path) -> Path:
    """A copy of the saved Llama to do harm to."""
    copied = tmp_path / "model"
    shutil.copytree(saved_llama, copied)
    return copied


def change_weights(folder: Path, name: str, weight: Tensor | None) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    if weight is None:
        del weights[name]
    else:
        weights[name] = weight
    save_file(weights, path, metadata={"format": "pt"})


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **values}), encoding="utf-8")


def test_a_sound_folder_loads_ready_to_be_read(saved_llama: Path, llama: ModelStructure) -> None:
    loaded = load_model(str(saved_llama))
    tokens = random_tokens()
    expected = llama.backbone.model(tokens, use_cache=False).logits
    assert torch.equal(loaded.model(tokens, use_cache=False).logits, expected)
    assert not loaded.model.training
    assert not any(weight.requires_grad for weight in loaded.model.parameters())
    assert loaded.tokenizer("w3 w95").input_ids == [3, 95]
    assert loaded.source == str(saved_llama)
    assert loaded.stored_dtype == torch.float32
    assert len(read_structure(loaded.model).layers) == 6


@pytest.mark.parametrize(
    ("dtype", "expected"), [(None, torch.bfloat16), (torch.float32, torch.float32)]
)
def test_computing_in_another_dtype_keeps_the_stored_one(
    dtype: torch.dtype | None, expected: torch.dtype, tmp_path: Path
) -> None:
    model: Any = make_model(LlamaConfig(**GROUPED))
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    loaded = load_model(str(tmp_path), dtype=dtype)
    assert loaded.stored_dtype == torch.bfloat16
    assert {weight.dtype for weight in loaded.model.parameters()} == {expected}


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c", "missing.gguf"])
def test_a_path_that_does_not_exist_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=f"`{name}` does not exist; check the path"):
        load_model(name)


def test_a_name_that_no_hub_knows_is_refused() -> None:
    complaint = "`nobody/nothing` is no folder here and the hub has no such model, or cannot be"
    with pytest.raises(ModelError, match=complaint):
        load_model("nobody/nothing")


def test_a_file_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    with pytest.raises(ModelError, match="is none of these; check the path"):
        load_model(str(path))


def test_a_folder_without_a_config_is_refused(tmp_path: Path, folder: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match=r"must hold `config\.json`.* holds nothing; give"):
        load_model(str(empty))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"must hold `config\.json`.* holds other files; give"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("{", "breaks off or errs in line 1"),
        ("[]", "holds a list"),
        ("[" * 100_000, "holds what no model does"),
        ('{"vocab_size": ' + "9" * 5000 + "}", "holds what no model does"),
        ("{}", "`model_type` in the config.json .* must be the name of a family"),
        ('{"model_type": "no-such-model"}', "which this version of transformers does not hold"),
    ],
    ids=["empty", "broken", "list", "deep", "digits", "typeless", "unknown"],
)
def test_a_config_that_makes_no_sense_is_refused(text: str, said: str, folder: Path) -> None:
    (folder / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=said):
        load_model(str(folder))


def test_a_config_that_contradicts_itself_is_refused(folder: Path) -> None:
    change_config(folder, num_attention_heads=5)
    complaint = "`num_attention_heads` in the config.json .* that fits the others, got `5`"
    with pytest.raises(ModelError, match=complaint):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (
            lambda: BertForMaskedLM(
                BertConfig(
                    vocab_size=VOCABULARY,
                    hidden_size=32,
                    num_hidden_layers=1,
                    num_attention_heads=4,
                    intermediate_size=48,
                )
            ),
            "BertForMaskedLM",
        ),
        (
            lambda: T5ForConditionalGeneration(
                T5Config(vocab_size=VOCABULARY, d_model=32, d_ff=48, num_layers=1, num_heads=4)
            ),
            "T5ForConditionalGeneration",
        ),
    ],
)
def test_a_model_that_writes_no_text_is_refused(make: Any, name: str, tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    complaint = f"must be a causal language model, and .* is `{name}`; give a model that"
    with pytest.raises(ModelError, match=complaint):
        load_model(str(tmp_path))


def test_a_type_without_architectures_is_refused_by_its_name(tmp_path: Path) -> None:
    T5Config().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is of type `t5`; give a model"):
        load_model(str(tmp_path))


def test_an_attention_without_torchs_core_runs_its_own(tmp_path: Path) -> None:
    make: Any = AutoModelForCausalLM.from_config
    make(Gemma2Config(**GROUPED, head_dim=8)).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    model = load_model(str(tmp_path)).model
    assert model.config._attn_implementation == "eager"
    assert attention_of(read_structure(model).layers[0]).unit_count == 2
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused(value: float, folder: Path) -> None:
    name = "model.layers.2.mlp.up_proj.weight"
    weight = load_file(folder / "model.safetensors")[name]
    weight[3, 4] = value
    change_weights(folder, name, weight)
    with pytest.raises(ModelError, match=rf"must be finite, and `{name}` of .* holds NaN"):
        load_model(str(folder))


def test_a_missing_tensor_is_named(folder: Path) -> None:
    change_weights(folder, "model.layers.2.mlp.up_proj.weight", None)
    complaint = r"lacks 1, such as `model\.layers\.2\.mlp\.up_proj\.weight`"
    with pytest.raises(ModelError, match=complaint):
        load_model(str(folder))


def test_a_misshapen_tensor_is_named(folder: Path) -> None:
    change_weights(folder, "model.norm.weight", torch.ones(3))
    complaint = r"`model\.norm\.weight` of .* is 3 in place of 32"
    with pytest.raises(ModelError, match=complaint):
        load_model(str(folder))


@pytest.mark.parametrize("keep", [0, 4, 200, -100])
def test_a_damaged_file_is_refused(keep: int, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    complaint = (
        r"`.*model\.safetensors` must be a whole safetensors file, and its \d+ bytes are none"
    )
    with pytest.raises(ModelError, match=complaint):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"tokenizer\.json` must hold a JSON object, and it is empty"),
        ("{", r"tokenizer\.json` must hold a JSON object, and it breaks off"),
        ("{}", r"must be one that transformers reads.* get `tokenizer\.json`"),
        ('{"added_tokens": [{"id": 1}]}', r"must be one that transformers reads"),
    ],
)
def test_a_damaged_tokenizer_is_refused(text: str, said: str, folder: Path) -> None:
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=said):
        load_model(str(folder))


def test_pickled_weights_are_never_read(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        ModelError, match=r"must be safetensors files, for pickles .* has only `pytorch_model.bin`"
    ):
        load_model(str(folder))


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(
        ModelError, match=r"must come with its tokenizer.* lacks `tokenizer\.json`"
    ):
        load_model(str(folder))


def test_an_error_of_a_library_is_told_in_our_words(
    saved_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(ModelError, match=r"must fit together.*cannot be loaded; get it again"):
        load_model(str(saved_llama))


def test_the_cache_is_where_the_system_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "compression-planner"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "compression-planner"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a user whom the system does not know
    with pytest.raises(OutputError, match="this user has no home; set XDG_CACHE_HOME"):
        cache_folder()
