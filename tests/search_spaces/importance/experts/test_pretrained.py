"""Reading routers out of folders that transformers has written, and out of wrong ones."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GptOssConfig,
    GraniteMoeConfig,
    MixtralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3MoeConfig,
)

from search_spaces.errors import ModelError
from search_spaces.importance.experts.pretrained import read_pretrained_routers
from search_spaces.structure.backbone import Backbone
from search_spaces.structure.components import Component
from search_spaces.structure.projections import Projections
from tests.models.experts_by_hand import mixture

SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}
FAMILIES: dict[str, tuple[Callable[[], PreTrainedConfig], str]] = {
    "mixtral": (lambda: MixtralConfig(**SIZES, num_local_experts=4), "mlp.gate.weight"),
    "qwen3_moe": (
        lambda: Qwen3MoeConfig(**SIZES, num_experts=4, moe_intermediate_size=8),
        "mlp.gate.weight",
    ),
    "gpt_oss": (lambda: GptOssConfig(**SIZES, num_local_experts=4), "mlp.router.weight"),
    "granite": (
        lambda: GraniteMoeConfig(**SIZES, num_local_experts=4),
        "block_sparse_moe.router.weight",
    ),
}


def make_model(config: PreTrainedConfig) -> PreTrainedModel:
    make: Any = AutoModelForCausalLM.from_config
    model: PreTrainedModel = make(config)
    return model


def made(name: str) -> tuple[PreTrainedModel, Backbone, list[Component]]:
    """Return a model, and of its backbone and its components what a reader of routers looks at."""
    config, router = FAMILIES[name]
    model = make_model(config())
    layers = cast("nn.ModuleList", model.get_submodule("model.layers"))
    paths = [f"model.layers.{index}" for index in range(len(layers))]
    backbone = SimpleNamespace(model=model, layers=layers, layer_paths=paths)
    components: list[Component] = [
        dataclasses.replace(mixture(experts=4), layer=layer, router_rows=(router,))
        for layer in range(len(layers))
    ]
    return model, cast("Backbone", backbone), components


def weights(model: PreTrainedModel, name: str) -> list[torch.Tensor]:
    router = FAMILIES[name][1]
    layers = cast("nn.ModuleList", model.get_submodule("model.layers"))
    return [dict(layer.named_parameters())[router].detach().clone() for layer in layers]


@pytest.mark.parametrize("name", FAMILIES)
def test_routers_are_read_as_a_family_stores_them(name: str, tmp_path: Path) -> None:
    model, backbone, components = made(name)
    before = weights(model, name)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    found = read_pretrained_routers(tmp_path, backbone, components)
    assert sorted(found) == [0, 1]
    for layer, rows in enumerate(before):
        assert torch.equal(found[layer], rows)


def test_shards_are_read_too_and_other_layers_passed_over(tmp_path: Path) -> None:
    model, backbone, components = made("mixtral")
    model.save_pretrained(tmp_path, max_shard_size="2KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    dense = Projections(kind="mlp", layer=0, unit_count=8, projections=(), module="mlp")
    found = read_pretrained_routers(tmp_path, backbone, [dense, components[1]])
    assert list(found) == [1]
    assert torch.equal(found[1], weights(model, "mixtral")[1])


def test_a_router_of_another_shape_is_refused(tmp_path: Path) -> None:
    _, backbone, components = made("mixtral")
    other = MixtralConfig(**SIZES, num_local_experts=8)
    make_model(other).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"shape \(4, 16\), and .* has \(8, 16\); let `--pretr"):
        read_pretrained_routers(tmp_path, backbone, components)


def test_a_folder_without_one_of_the_routers_is_refused(tmp_path: Path) -> None:
    model, backbone, components = made("mixtral")
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    left = {key: value for key, value in load_file(file).items() if "layers.1." not in key}
    save_file(left, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"has no `model.layers.1.mlp.gate.weight`"):
        read_pretrained_routers(tmp_path, backbone, components)


@pytest.mark.parametrize("folder", ["", "missing"])
def test_a_folder_without_weights_is_refused(folder: str, tmp_path: Path) -> None:
    _, backbone, components = made("mixtral")
    with pytest.raises(ModelError, match="must be a folder with safetensors files"):
        read_pretrained_routers(tmp_path / folder, backbone, components)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    _, backbone, components = made("mixtral")
    (tmp_path / "model.safetensors").write_bytes(b"no header")
    with pytest.raises(ModelError, match="must be a whole safetensors file"):
        read_pretrained_routers(tmp_path, backbone, components)
