"""A GGUF file becomes a folder in the cache once; a damaged one is refused."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter, RopeScalingType, TokenType
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, PreTrainedModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from search_spaces.atomic_files import scratch_beside
from search_spaces.errors import ModelError
from search_spaces.models.gguf import unpack_gguf
from search_spaces.models.loading import load_model
from tests.models.damage import edit_json
from tests.models.factory import GROUPED, SPECIAL, VOCABULARY, make_model


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


def test_what_lies_beside_a_gguf_file_is_not_looked_at(cache: Path, gguf: Path) -> None:
    mark = gguf.parent / "ran"
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Own: pass\n"
    (gguf.parent / "own.py").write_text(code, encoding="utf-8")
    own = {"AutoConfig": "own.Own", "AutoTokenizer": [None, "own.Own"]}
    for name in ("config.json", "tokenizer_config.json", "adapter_config.json"):
        edit_json(gguf.parent / name, auto_map=own, tokenizer_class="Own", model_type="own")
    assert load_model(str(gguf)).tokenizer.convert_ids_to_tokens([3, 95]) == ["w3", "w95"]
    assert not mark.exists()


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


def test_the_next_load_deletes_what_no_load_will_read(cache: Path, gguf: Path) -> None:
    first = unpack_gguf(gguf)
    place = first.parent
    (version,) = re.findall(r"^v(\d+)-", first.name)
    old = ("0123456789abcdef", first.name.replace(f"v{version}", f"v{int(version) - 1}", 1))
    newer = first.name.replace(f"v{version}", f"v{int(version) + 1}", 1)
    foreign = ("notes", "0123456789abcdef.bak", "0123456789ABCDEF")
    of_another_file = f"v{version}-{'0' * 16}-{'1' * 16}"
    for name in (*old, newer, *foreign, of_another_file):
        (place / name).mkdir()
        (place / name / "file").touch()
    (place / "fedcba9876543210").symlink_to(place / "notes")
    with scratch_beside(place / "unpacked") as scratch:
        named = scratch.name
    (place / named).mkdir()  # as if its process had been killed
    os.utime(gguf, ns=(1, 1))
    second = unpack_gguf(gguf)
    assert second != first
    left = {second.name, newer, *foreign, of_another_file, "fedcba9876543210"}
    assert {path.name for path in place.iterdir()} == left
    assert (place / "notes" / "file").exists()

    (place / old[0]).mkdir()  # by a version that is still in use
    assert unpack_gguf(gguf) == second
    assert {path.name for path in place.iterdir()} == left


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def llama3_stretches(writer: GGUFWriter) -> None:
    config: Any = LlamaConfig(**GROUPED, rope_parameters={**LLAMA3, "rope_theta": 10000.0})
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1 / 10000 ** (torch.arange(0, 8, 2) / 8)
    writer.add_tensor("rope_freqs.weight", (plain / stretched).numpy())
    writer.add_rope_scaling_orig_ctx_len(32)


def longrope(writer: GGUFWriter) -> None:
    writer.add_rope_scaling_orig_ctx_len(32)
    for name, factor in (("short", 1.0), ("long", 2.0)):
        factors = np.full(4, factor, np.float32)
        writer.add_tensor(f"rope_factors_{name}.weight", factors)


def yarn(writer: GGUFWriter) -> None:
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(16)
    writer.add_rope_scaling_yarn_beta_fast(16.0)


def linear(writer: GGUFWriter) -> None:
    writer.add_rope_scaling_type(RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(2.0)


@pytest.mark.parametrize(
    ("say", "expected"),
    [
        (linear, {"rope_type": "linear", "factor": 2.0}),
        (
            yarn,
            {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 16,
                "beta_fast": 16.0,
            },
        ),
        (llama3_stretches, LLAMA3),
        (
            longrope,
            {
                "rope_type": "longrope",
                "short_factor": [1.0] * 4,
                "long_factor": [2.0] * 4,
                "original_max_position_embeddings": 32,
            },
        ),
        (lambda writer: writer.add_rope_scaling_type(RopeScalingType.NONE), {}),
        (lambda writer: writer.add_attn_logit_softcapping(0.0), {}),
    ],
)
def test_the_scaling_of_rotary_positions_is_kept(
    say: Callable[[GGUFWriter], object],
    expected: dict[str, Any],
    cache: Path,
    gguf_model: PreTrainedModel,
    tmp_path: Path,
) -> None:
    folder = unpack_gguf(write_gguf(tmp_path / "scaled.gguf", gguf_model, say))
    rope = json.loads((folder / "config.json").read_text(encoding="utf-8"))["rope_parameters"]
    assert rope == {"rope_type": "default", "rope_theta": 10000.0, **expected}
    assert {path.parent for path in cache.rglob("*") if path.is_file()} == {folder}


@pytest.mark.parametrize(
    ("say", "key"),
    [
        (lambda writer: writer.add_attn_logit_softcapping(30.0), "llama.attn_logit_softcapping"),
        (lambda writer: writer.add_sliding_window(16), "llama.attention.sliding_window"),
        (lambda writer: writer.add_expert_count(4), "llama.expert_count"),
        (lambda writer: writer.add_attention_scale(0.5), "llama.attention.scale"),
        (lambda writer: writer.add_logit_scale(2.0), "llama.logit_scale"),
        (lambda writer: writer.add_float32("llama.rope.scaling.alpha", 2.0), "scaling.alpha"),
        (lambda writer: writer.add_float32("llama.of_tomorrow", 2.0), "llama.of_tomorrow"),
        (lambda writer: writer.add_uint16("split.count", 2), "split.count"),
        (
            lambda writer: writer.add_tensor("blk.0.attn_q.bias", np.ones(32, np.float32)),
            "numbers where transformers takes",
        ),
        (
            lambda writer: writer.add_tensor(
                "rope_freqs.weight", np.array([1, 2, 1, 3], np.float32)
            ),
            "rope_freqs.weight",
        ),
    ],
)
def test_what_transformers_leaves_out_is_refused_by_its_key(
    say: Callable[[GGUFWriter], object],
    key: str,
    cache: Path,
    gguf_model: PreTrainedModel,
    tmp_path: Path,
) -> None:
    path = write_gguf(tmp_path / "odd.gguf", gguf_model, say)
    with pytest.raises(ModelError, match=re.escape(key)) as refused:
        unpack_gguf(path)
    assert len(str(refused.value)) <= 300
    assert not any(cache.rglob("*.safetensors"))


@pytest.fixture(scope="module")
def gguf_model() -> PreTrainedModel:
    """A Llama whose weights bfloat16 holds exactly."""
    config = LlamaConfig(**{**GROUPED, "num_hidden_layers": 1}, tie_word_embeddings=False)
    model: Any = make_model(config)
    rounded: PreTrainedModel = model.to(torch.bfloat16).to(torch.float32)
    return rounded


@pytest.fixture
def gguf(gguf_model: PreTrainedModel, tmp_path: Path) -> Path:
    """The Llama as a GGUF file."""
    return write_gguf(tmp_path / "tiny.gguf", gguf_model)


def write_gguf(
    path: Path, gguf_model: PreTrainedModel, say: Callable[[GGUFWriter], object] = lambda _: None
) -> Path:
    """Write a Llama as llama.cpp's converter would, and what else ``say`` writes."""
    writer = GGUFWriter(path, "llama")
    say(writer)
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
