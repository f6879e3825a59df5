"""A sound folder loads; whatever is wrong with one is said in a sentence."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFWriter, TokenType
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    Gemma2Config,
    LlamaConfig,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from search_spaces.errors import ModelError, StructureError
from search_spaces.loading import cache_folder, load_model, unpack_gguf
from search_spaces.structure.read import ModelStructure, read_structure
from tests.families import GROUPED, SPECIAL, VOCABULARY, make_model, random_tokens, write_tokenizer


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
    complaint = "`nobody/nothing` must be a complete HuggingFace folder.*cannot be loaded"
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


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": "no-such-model"}', "{}"])
def test_a_config_that_makes_no_sense_is_refused(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"cannot be loaded|must be a causal language model"):
        load_model(str(folder))


def test_a_config_that_contradicts_itself_is_refused(folder: Path) -> None:
    change_config(folder, num_attention_heads=5)
    with pytest.raises(ModelError, match="cannot be loaded"):
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
    complaint = f"must be a causal language model, and .* is {name}; give a model that"
    with pytest.raises(ModelError, match=complaint):
        load_model(str(tmp_path))


def test_a_type_without_architectures_is_refused_by_its_name(tmp_path: Path) -> None:
    T5Config().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is of type t5; give a model"):
        load_model(str(tmp_path))


def test_an_attention_without_torchs_core_is_refused(tmp_path: Path) -> None:
    make: Any = AutoModelForCausalLM.from_config
    make(Gemma2Config(**GROUPED, head_dim=8)).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    complaint = "scaled_dot_product_attention, and .* cannot: Gemma2ForCausalLM does not support"
    with pytest.raises(StructureError, match=complaint):
        load_model(str(tmp_path))


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
    complaint = r"lacks or misshapes 1, such as `model\.layers\.2\.mlp\.up_proj\.weight`"
    with pytest.raises(ModelError, match=complaint):
        load_model(str(folder))


def test_a_misshapen_tensor_is_named(folder: Path) -> None:
    change_weights(folder, "model.norm.weight", torch.ones(3))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(folder))


@pytest.mark.parametrize("keep", [0, 4, 200, -100])
def test_a_damaged_file_is_refused(keep: int, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"cannot be loaded: .*; check the folder"):
        load_model(str(folder))


@pytest.mark.parametrize("text", ["", "{", "{}", '{"added_tokens": [{"id": 1}]}'])
def test_a_damaged_tokenizer_is_refused(text: str, folder: Path) -> None:
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"cannot be loaded: .*; check the folder"):
        load_model(str(folder))


def test_pickled_weights_are_never_read(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors weights, and it cannot be loaded"):
        load_model(str(folder))


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(folder))


@pytest.fixture
def with_code(folder: Path) -> Path:
    """The same model, described by code in its folder that leaves a mark when it runs."""
    code = (
        "from pathlib import Path\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "Path(__MARK__).touch()\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    ).replace("__MARK__", repr(str(folder / "ran")))
    (folder / "own.py").write_text(code, encoding="utf-8")
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    change_config(folder, model_type="own", auto_map=own, architectures=["OwnForCausalLM"])
    return folder


def test_code_in_a_folder_does_not_run_unasked(with_code: Path) -> None:
    with pytest.raises(ModelError, match=r"code of its own must be trusted.*trust_remote_code"):
        load_model(str(with_code))
    assert not (with_code / "ran").exists()


def test_code_in_a_trusted_folder_runs(with_code: Path, llama: ModelStructure) -> None:
    loaded = load_model(str(with_code), trust_remote_code=True)
    assert (with_code / "ran").exists()
    tokens = random_tokens()
    expected = llama.backbone.model(tokens, use_cache=False).logits
    assert torch.equal(loaded.model(tokens, use_cache=False).logits, expected)


def test_an_error_without_a_message_is_named_by_its_type(
    saved_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(ModelError, match="cannot be loaded: KeyError; check the folder"):
        load_model(str(saved_llama))


def test_the_cache_is_where_the_system_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "compression-planner"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "compression-planner"


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"GGUF" + bytes(30), b"not a model at all, only some text", None]
)
def test_a_damaged_gguf_file_is_refused(content: bytes | None, cache: Path, gguf: Path) -> None:
    gguf.write_bytes(gguf.read_bytes()[:-2000] if content is None else content)
    with pytest.raises(ModelError, match="must be a GGUF file of an architecture that"):
        load_model(str(gguf))
    assert not any(cache.rglob("*.safetensors"))


def test_a_gguf_file_becomes_a_folder_once(
    cache: Path, gguf: Path, gguf_model: PreTrainedModel
) -> None:
    loaded = load_model(str(gguf), dtype=torch.float32)
    assert loaded.stored_dtype == torch.bfloat16
    assert Path(loaded.source).parent == cache / "compression-planner" / "gguf"
    expected = dict(gguf_model.named_parameters())
    for name, weight in loaded.model.named_parameters():
        assert torch.equal(weight, expected[name])
    assert loaded.tokenizer.convert_ids_to_tokens([3, 95]) == ["w3", "w95"]
    stamps = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    assert unpack_gguf(gguf) == Path(loaded.source)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == stamps


def test_a_folder_that_another_process_made_meanwhile_stays(
    cache: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = unpack_gguf(gguf).name
    folder = cache / "compression-planner" / "gguf" / digest
    shutil.rmtree(folder)
    read = AutoTokenizer.from_pretrained

    def slowly(*args: Any, **kwargs: Any) -> Any:
        folder.mkdir()
        (folder / "theirs").touch()
        return read(*args, **kwargs)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", slowly)
    assert unpack_gguf(gguf) == folder
    assert [path.name for path in folder.iterdir()] == ["theirs"]
    assert [path.name for path in folder.parent.iterdir()] == [digest]


@pytest.fixture(scope="module")
def gguf_model() -> PreTrainedModel:
    """A Llama whose weights bfloat16 holds exactly."""
    config = LlamaConfig(**{**GROUPED, "num_hidden_layers": 1}, tie_word_embeddings=False)
    model: Any = make_model(config)
    rounded: PreTrainedModel = model.to(torch.bfloat16).to(torch.float32)
    return rounded


@pytest.fixture
def gguf(gguf_model: PreTrainedModel, tmp_path: Path) -> Path:
    """The Llama as a GGUF file, written as llama.cpp's converter would."""
    path = tmp_path / "tiny.gguf"
    writer = GGUFWriter(path, "llama")
    config = gguf_model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(VOCABULARY)
    words = ["<pad>", "<s>", "</s>", *(f"w{index}" for index in range(3, VOCABULARY))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([-float(index) for index in range(VOCABULARY)])
    kinds = [TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (VOCABULARY - 3)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(SPECIAL["bos_token_id"])
    writer.add_eos_token_id(SPECIAL["eos_token_id"])
    writer.add_unk_token_id(0)
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "model.layers.0.input_layernorm": "blk.0.attn_norm",
        "model.layers.0.post_attention_layernorm": "blk.0.ffn_norm",
        "model.layers.0.self_attn.q_proj": "blk.0.attn_q",
        "model.layers.0.self_attn.k_proj": "blk.0.attn_k",
        "model.layers.0.self_attn.v_proj": "blk.0.attn_v",
        "model.layers.0.self_attn.o_proj": "blk.0.attn_output",
        "model.layers.0.mlp.gate_proj": "blk.0.ffn_gate",
        "model.layers.0.mlp.up_proj": "blk.0.ffn_up",
        "model.layers.0.mlp.down_proj": "blk.0.ffn_down",
    }
    for name, weight in gguf_model.named_parameters():
        own = name.removesuffix(".weight")
        stored: Tensor = weight
        heads = {"q_proj": 4, "k_proj": 2}.get(own.rpartition(".")[2])
        if heads:  # llama.cpp turns neighbouring features, not the two halves
            stored = weight.view(heads, 2, 4, -1).transpose(1, 2).flatten(0, 2)
        writer.add_tensor(f"{names[own]}.weight", stored.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
