"""A model computes, counts and identifies what its files hold, whatever its config says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig

from evaluators.costs.cost_model import CostModel
from search_spaces.errors import ModelError
from search_spaces.models import Offload
from search_spaces.models.loading import load_model
from search_spaces.reading.read import read_structure
from tests.models.candidates import random_tokens
from tests.models.factory import GROUPED, make_model, save_model
from tests.models.families import FAMILIES
from tests.models.moe_families import MOE_FAMILIES

OFFLOADS: tuple[Offload, ...] = ("never", "always")


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **values}), encoding="utf-8")


def change_weights(folder: Path, change: Callable[[str, Tensor], Tensor]) -> None:
    path = folder / "model.safetensors"
    weights = {name: change(name, weight) for name, weight in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})


def stored_bytes(folder: Path) -> int:
    return sum(weight.nbytes for weight in load_file(folder / "model.safetensors").values())


@pytest.fixture
def folder(saved_llama: Path, tmp_path: Path) -> Path:
    model = make_model(LlamaConfig(**{**GROUPED, "num_hidden_layers": 2}))
    return save_model(model, tmp_path / "model")


@pytest.mark.parametrize("offload", OFFLOADS)
def test_weights_are_not_rounded_to_the_dtype_of_the_config(
    folder: Path, offload: Offload
) -> None:
    whole = load_model(str(folder), dtype=torch.float32)
    tokens = random_tokens()
    expected = whole.model(tokens, use_cache=False).logits
    change_config(folder, dtype="bfloat16")
    loaded = load_model(str(folder), dtype=torch.float32, offload=offload)
    assert loaded.stored_dtype == torch.float32
    assert not loaded.stored.apart
    torch.testing.assert_close(loaded.model(tokens, use_cache=False).logits, expected)
    assert loaded.identity.checksum == whole.identity.checksum


@pytest.mark.parametrize(
    ("name", "config_dtype"),
    [("llama", "float32"), ("llama", "bfloat16"), ("mixtral", "bfloat16"), ("gpt2", "float32")],
)
@pytest.mark.parametrize("offload", OFFLOADS)
def test_each_tensor_counts_in_the_format_that_it_has(
    name: str, config_dtype: str, offload: Offload, tmp_path: Path
) -> None:
    folder = save_model(make_model((FAMILIES | MOE_FAMILIES)[name].config(layers=2)), tmp_path)
    # of most, the first dimensions are narrow; norms, biases and routers stay wide
    change_weights(folder, lambda n, w: w if w.ndim == 1 or "gate.w" in n else w.bfloat16())
    change_config(folder, dtype=config_dtype)
    wide = {n: w for n, w in load_file(folder / "model.safetensors").items() if w.ndim == 1}
    loaded = load_model(str(folder), dtype=torch.float32, offload=offload)
    assert loaded.stored_dtype == loaded.stored.rounding == torch.bfloat16
    assert set(loaded.stored.apart.values()) == {torch.float32}
    structure = read_structure(loaded.model, loaded.stream)
    costs = CostModel(structure, stored=loaded.stored, context=8).dense()
    assert costs["size"] == stored_bytes(folder)
    if offload == "never":
        for path, weight in loaded.model.named_parameters():
            if path in wide:
                assert torch.equal(weight, wide[path])


def test_a_buffer_that_is_no_weight_is_that_of_the_dtype_computed_in(tmp_path: Path) -> None:
    config = GemmaConfig(**{**GROUPED, "hidden_size": 40, "num_hidden_layers": 2}, head_dim=8)
    save_model(make_model(config, dtype=torch.bfloat16), tmp_path)
    tokens = random_tokens()
    for dtype, scale in ((torch.float32, 40**0.5), (torch.bfloat16, 6.3125)):
        load: Any = AutoModelForCausalLM.from_pretrained
        expected = load(tmp_path, dtype=dtype, attn_implementation="sdpa")
        for offload in OFFLOADS:
            loaded = load_model(str(tmp_path), dtype=dtype, offload=offload)
            buffers = dict(loaded.model.named_buffers())
            assert float(buffers["model.embed_tokens.embed_scale"]) == pytest.approx(scale)
            logits = loaded.model(tokens, use_cache=False).logits
            assert torch.equal(logits, expected(tokens, use_cache=False).logits)


@pytest.mark.parametrize("offload", OFFLOADS)
def test_a_head_of_its_own_is_no_tied_one(folder: Path, offload: Offload) -> None:
    expected = load_model(str(folder)).model(random_tokens(), use_cache=False).logits
    change_config(folder, tie_word_embeddings=True)
    loaded = load_model(str(folder), offload=offload)
    assert not loaded.model.config.tie_word_embeddings
    assert torch.equal(loaded.model(random_tokens(), use_cache=False).logits, expected)


def test_a_head_that_equals_the_embedding_stays_tied(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    change_weights(folder, lambda n, w: embedding.clone() if n == "lm_head.weight" else w)
    change_config(folder, tie_word_embeddings=True)
    model: Any = load_model(str(folder)).model
    assert model.config.tie_word_embeddings
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.int8, "I8"), (torch.float8_e4m3fn, "F8_E4M3"), (torch.complex64, "C64")],
)
@pytest.mark.parametrize("offload", OFFLOADS)
def test_codes_of_weights_are_not_taken_for_weights(
    folder: Path, offload: Offload, dtype: torch.dtype, name: str
) -> None:
    down = "model.layers.1.mlp.down_proj.weight"
    change_weights(folder, lambda at, weight: weight.to(dtype) if at == down else weight)
    with pytest.raises(ModelError, match=f"`{down}` of `.*` is {name} without one") as caught:
        load_model(str(folder), offload=offload)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize("offload", OFFLOADS)
def test_a_checkpoint_of_another_size_is_refused_before_its_model_is_made(
    folder: Path, offload: Offload
) -> None:
    change_config(folder, hidden_size=2**17, num_attention_heads=2**10, head_dim=2**7)
    with pytest.raises(ModelError, match=r"holds [\d,]+ numbers of [\d,]{12,}; get the whole"):
        load_model(str(folder), offload=offload)
