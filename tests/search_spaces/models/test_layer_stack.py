"""Layers are found in one list, or in blocks that hold nothing but numbered parts."""

from typing import Any

import pytest
from torch import nn

from search_spaces.errors import StructureError
from search_spaces.models.layer_stack import LayerStack, find_stack
from search_spaces.structure.model import ModelStructure


class Block(nn.Module):
    """Several layers that a decoder runs as one."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        for index, part in enumerate(parts):
            self.add_module(f"part_{index}", part)


class Stacked(nn.Module):
    """What `find_stack` asks of a model."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.num_hidden_layers = len(layers)

    @property
    def config(self) -> "Stacked":
        return self

    def get_text_config(self) -> "Stacked":
        return self


def stack_of(*layers: nn.Module) -> LayerStack:
    model: Any = Stacked(*layers)
    return find_stack(model)


def layer() -> nn.Module:
    return nn.ModuleDict({"norm": nn.LayerNorm(2)})


def test_layers_lie_in_the_list(llama: ModelStructure) -> None:
    stack = find_stack(llama.backbone.model)
    assert stack.path == "model.layers"
    assert list(stack.layers) == [f"model.layers.{index}" for index in range(6)]
    assert list(stack.layers.values()) == list(stack.blocks)


def test_layers_of_blocks_come_one_after_another() -> None:
    first, second, third = layer(), layer(), layer()
    stack = stack_of(Block(first, second), Block(third))
    assert len(stack.blocks) == 2
    assert dict(stack.layers) == {
        "layers.0.part_0": first,
        "layers.0.part_1": second,
        "layers.1.part_0": third,
    }


def test_a_layer_that_holds_more_than_parts_is_no_block() -> None:
    assert list(stack_of(Block(layer()), layer()).layers) == ["layers.0", "layers.1"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("layers.0.part_1.norm.weight", 1),
        ("layers.1.part_0.norm.bias", 2),
        ("layers.1", None),
        ("head.weight", None),
    ],
)
def test_a_tensor_is_one_layers_or_nones(name: str, expected: int | None) -> None:
    assert stack_of(Block(layer(), layer()), Block(layer())).layer_of(name) == expected


def test_a_model_without_a_list_is_refused() -> None:
    with pytest.raises(StructureError, match=r"one list of 0 modules, and Stacked has none"):
        stack_of()
