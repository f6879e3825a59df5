"""What a layer's values hide, zeros above all, does not hide how it is wired."""

from typing import Any

import numpy as np
import pytest
import torch

from search_spaces.reading.lively import lively, lively_states
from search_spaces.reading.read import read_structure
from search_spaces.structure.components import Component
from search_spaces.structure.mixture import mixtures_of
from search_spaces.structure.model import LayerStructure, ModelStructure
from tests.models.factory import twin
from tests.models.families import EACH_FAMILY, dense
from tests.models.moe_families import mixture


def described(layer: LayerStructure) -> dict[str, Any]:
    """Give all that is read of a layer, in values that can be compared."""

    def component(part: Component) -> dict[str, Any]:
        values = dict(vars(part))
        stacks = values.pop("stacks", ())
        values["stacks"] = [(s.path, s.role, s.axis, tuple(s.channels)) for s in stacks]
        shapes = [(p.path, p.side, tuple(p.units)) for p in part.projections]
        return {**values, "projections": shapes, "attributes": dict(part.attributes)}

    return {
        "components": [component(part) for part in layer.components],
        "shared": layer.shared,
        "vanishes": layer.vanishes,
        "parallel": layer.parallel,
        "splits": layer.splits,
    }


def assert_read_alike(changed: ModelStructure, original: ModelStructure) -> None:
    again = read_structure(changed.backbone.model)
    for got, expected in zip(again.layers, original.layers, strict=True):
        assert described(got) == described(expected)


@pytest.mark.parametrize("name", EACH_FAMILY)
def test_blocks_that_begin_as_identities_are_read_as_any(name: str) -> None:
    structure = dense(name)
    expanded = twin(structure)
    for index in (1, 4):
        for part in expanded.layers[index].components:
            output = expanded.backbone.layers[index].get_submodule(part.projections[-1].path)
            for weight in output.parameters():
                weight.zero_()
    assert_read_alike(expanded, structure)


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi3"])
def test_layers_of_zeros_are_read_as_any(name: str) -> None:
    structure = dense(name)
    empty = twin(structure)
    for weight in empty.backbone.layers[2].parameters():
        weight.zero_()
    assert_read_alike(empty, structure)


def test_channels_and_heads_that_were_zeroed_are_read_as_any() -> None:
    structure = dense("llama")
    masked = twin(structure)
    layer: Any = masked.backbone.layers[3]
    layer.mlp.down_proj.weight[:, ::2] = 0
    layer.mlp.up_proj.weight[1::2] = 0
    layer.self_attn.v_proj.weight[:8] = 0
    assert_read_alike(masked, structure)


@pytest.mark.parametrize("name", ["mixtral", "deepseek-v2"])
def test_experts_that_are_copies_of_each_other_are_read_as_any(name: str) -> None:
    structure = mixture(name)
    copied = twin(structure)
    for experts in mixtures_of(copied.components):
        layer = copied.backbone.layers[experts.layer]
        for stack in experts.stacks:
            weight = layer.get_parameter(stack.path)
            weight.copy_(weight[:1].expand_as(weight).clone())
        for path in experts.router_rows:
            layer.get_parameter(path).zero_()
    assert_read_alike(copied, structure)


def test_a_sound_layer_is_probed_as_it_is(structure: ModelStructure) -> None:
    for layer in structure.backbone.layers:
        assert lively(layer) is layer


def test_what_hides_is_replaced_in_a_copy() -> None:
    layer: Any = twin(dense("llama")).backbone.layers[0]
    layer.mlp.down_proj.weight.zero_()
    copy: Any = lively(layer)
    assert not layer.mlp.down_proj.weight.any()
    assert copy.mlp.down_proj.weight.all()
    assert copy.mlp.up_proj.weight is layer.mlp.up_proj.weight


def test_states_that_are_all_alike_are_replaced() -> None:
    states = torch.randn(1, 4, 8)
    assert lively_states(states) is states
    replaced = lively_states(torch.zeros(1, 4, 8))
    assert replaced.shape == (1, 4, 8)
    assert len(np.unique(replaced)) == 32
