"""Experts that lie on disk one by one are one tensor in memory, of one layer at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    GptOssConfig,
    MixtralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2MoeConfig,
)

from search_spaces.errors import ModelError
from search_spaces.models.checkpoint import locate, read_weights
from search_spaces.models.fingerprint import lasting
from search_spaces.models.loading import LoadedModel, load_model
from search_spaces.models.on_disk.source_files import weight_files
from tests.models.candidates import random_tokens
from tests.models.factory import GATED, GROUPED, make_model, save_model, write_tokenizer

CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "mixtral": lambda: MixtralConfig(**GROUPED, num_local_experts=4),
    "qwen2-moe": lambda: Qwen2MoeConfig(
        **GROUPED,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=24,
        mlp_only_layers=[1],
    ),
    "deepseek-v3": lambda: DeepseekV3Config(
        **GATED,
        n_routed_experts=8,
        n_group=2,
        topk_group=1,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
    ),
    "gpt-oss": lambda: GptOssConfig(
        **{**GROUPED, "num_hidden_layers": 2},
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
}
PER_EXPERT = ("mixtral", "qwen2-moe", "deepseek-v3")
BIAS = "mlp.gate.e_score_correction_bias"
HOLDER = "model.layers.2.mlp.experts"


def made(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return make_model(CONFIGS[name](), dtype=dtype, random_buffers=True)


def save(
    name: str, folder: Path, *, fused: bool = False, dtype: torch.dtype = torch.float32
) -> None:
    """Write a model expert by expert, in many files, or as it is in memory, in one."""
    model = made(name, dtype)
    save_model(model, folder, max_shard_size="64KB")
    if fused:
        for file in (*folder.glob("*.safetensors"), *folder.glob("*.index.json")):
            file.unlink()
        save_file(lasting(model), folder / "model.safetensors", metadata={"format": "pt"})


def on_disk(folder: Path) -> dict[str, Tensor]:
    return {n: w for file in folder.glob("*.safetensors") for n, w in load_file(file).items()}


def streamed(folder: Path, **options: Any) -> LoadedModel:
    loaded = load_model(str(folder), offload="always", **options)
    assert loaded.stream is not None
    return loaded


def loaded_whole(folder: Path, **options: Any) -> LoadedModel:
    """Load a model whose weights lie in memory as those of a streamed one do.

    Mapped from a file they lie at any address, and kernels part their sums by alignment.
    """
    loaded = load_model(str(folder), **options)
    for weight in lasting(loaded.model).values():
        weight.data = weight.data.clone()
    return loaded


@pytest.fixture(
    scope="module", params=[(n, f) for n in PER_EXPERT for f in (False, True)], ids=str
)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, fused = request.param
    folder: Path = tmp_path_factory.mktemp("stored") / name
    save(name, folder, fused=fused)
    stacked = any(".experts.gate_up_proj" in tensor for tensor in on_disk(folder))
    assert stacked is fused
    return folder


def test_a_streamed_mixture_is_the_one_that_is_loaded_whole(saved: Path) -> None:
    whole, stream = loaded_whole(saved), streamed(saved)
    assert stream.identity == whole.identity
    tokens = random_tokens()
    expected = whole.model(tokens, use_cache=False).logits
    assert torch.equal(stream.model(tokens, use_cache=False).logits, expected)


def test_all_that_lasts_passes_by_layer_for_layer(saved: Path) -> None:
    whole, loaded = lasting(load_model(str(saved)).model), streamed(saved)
    assert loaded.stream is not None
    layers: Any = loaded.model.get_submodule("model.layers")
    names = []
    for name, weight in loaded.stream.weights():
        assert torch.equal(weight, whole[name])
        assert isinstance(weight, nn.Parameter) is isinstance(whole[name], nn.Parameter)
        present = [any(not w.is_meta for w in lasting(layer).values()) for layer in layers]
        assert sum(present) <= 1
        names.append(name)
    assert names == sorted(whole)


@pytest.mark.parametrize("name", PER_EXPERT)
def test_experts_run_in_their_own_forward_in_any_precision(name: str, tmp_path: Path) -> None:
    save(name, tmp_path, dtype=torch.bfloat16)
    for dtype in (None, torch.float32):
        whole, loaded = loaded_whole(tmp_path, dtype=dtype), streamed(tmp_path, dtype=dtype)
        for model in (whole.model, loaded.model):
            assert model.config._experts_implementation == "eager"
            assert {w.dtype for w in model.parameters()} == {dtype or torch.bfloat16}
        tokens = random_tokens()
        expected = whole.model(tokens, use_cache=False).logits
        assert torch.equal(loaded.model(tokens, use_cache=False).logits, expected)


def test_a_change_of_a_buffer_is_made_once_a_reading(tmp_path: Path) -> None:
    save("deepseek-v3", tmp_path)
    loaded = streamed(tmp_path)
    assert loaded.stream is not None
    stored = on_disk(tmp_path)[f"model.layers.2.{BIAS}"]
    gate: Any = loaded.model.get_submodule("model.layers.2.mlp.gate")

    def turn_(layer: nn.Module) -> None:
        bias = layer.get_buffer(BIAS)
        bias.copy_(bias.flip(0))

    loaded.stream.change_(2, turn_)
    for _ in range(3):
        assert gate.e_score_correction_bias.is_meta
        with loaded.stream.resident(2):
            assert torch.equal(gate.e_score_correction_bias, stored.flip(0))
            assert "e_score_correction_bias" in dict(gate.named_buffers())


def test_a_buffer_keeps_its_precision(tmp_path: Path) -> None:
    save("deepseek-v3", tmp_path)
    loaded = streamed(tmp_path, dtype=torch.bfloat16)
    assert loaded.stream is not None
    with loaded.stream.resident(2) as layer:
        assert layer.get_buffer(BIAS).dtype == torch.float32
        assert layer.get_parameter("mlp.gate.weight").dtype == torch.bfloat16


def test_buffers_tell_models_apart_and_are_no_parameters(tmp_path: Path) -> None:
    model = made("deepseek-v3")
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    before = load_model(str(tmp_path)).identity
    assert before.params == sum(weight.numel() for weight in model.parameters())
    model.get_buffer(f"model.layers.2.{BIAS}").add_(1)
    model.save_pretrained(tmp_path)
    after = load_model(str(tmp_path)).identity
    assert after.fingerprint != before.fingerprint
    assert after.params == before.params


def test_pieces_of_a_layer_are_those_of_its_experts(tmp_path: Path) -> None:
    save("mixtral", tmp_path)
    with torch.device("meta"):
        empty = made_empty("mixtral")
    (up,) = [
        weight
        for weight in locate(empty, weight_files(str(tmp_path)).tensors)
        if weight.names == (f"{HOLDER}.gate_up_proj",)
    ]
    holder = "model.layers.2.block_sparse_moe.experts"
    named = {f"{holder}.{expert}.w{which}.weight" for expert in range(4) for which in (1, 3)}
    assert {piece.name for piece in up.pieces} == named


def made_empty(name: str) -> PreTrainedModel:
    make: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        empty: PreTrainedModel = make(CONFIGS[name]())
    return empty


@pytest.mark.parametrize("name", list(CONFIGS))
def test_weights_on_disk_are_those_in_memory(name: str, tmp_path: Path) -> None:
    model = made(name)
    model.save_pretrained(tmp_path, max_shard_size="64KB")
    empty = made_empty(name)
    read = dict(read_weights(locate(empty, weight_files(str(tmp_path)).tensors), empty))
    expected = lasting(model)
    assert read.keys() == expected.keys()
    for path, weight in expected.items():
        assert torch.equal(read[path], weight)


def rewritten(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    weights = on_disk(folder)
    for file in (*folder.glob("*.safetensors"), *folder.glob("*.index.json")):
        file.unlink()
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


EXPERT = "model.layers.2.block_sparse_moe.experts"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop(f"{EXPERT}.3.w2.weight"), r"down_proj` of .* is 3 × 32 × 48 in place"),
        (lambda w: w.pop(f"{EXPERT}.3.w1.weight"), r"gate_up_proj` on disk must fit together"),
        (
            lambda w: w.update({f"{EXPERT}.1.w2.weight": torch.ones(2, 2)}),
            r"down_proj` on disk must fit together, such as `.*experts\.0\.w2\.weight`",
        ),
        (
            lambda w: [w.pop(f"{EXPERT}.{expert}.w2.weight") for expert in range(4)],
            rf"lacks 1, such as `{HOLDER}\.down_proj`",
        ),
        (lambda w: w[f"{EXPERT}.1.w2.weight"].fill_(torch.nan), r"down_proj` of .* holds NaN"),
    ],
    ids=["one expert", "one gate", "misshapen", "a stack", "nan"],
)
def test_damaged_experts_are_refused(
    change: Callable[[dict[str, Tensor]], None], said: str, tmp_path: Path
) -> None:
    save("mixtral", tmp_path)
    with pytest.raises(ModelError, match=said):
        load_model(str(rewritten(tmp_path, change)), offload="always")
