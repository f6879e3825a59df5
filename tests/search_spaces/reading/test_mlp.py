"""MLPs that are wired in unknown ways are refused by name; levels are steps of channels."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaMLP

from search_spaces.errors import StructureError
from search_spaces.reading.read import read_structure
from search_spaces.space.levels import mlp_levels
from search_spaces.structure.projections import Projections
from tests.models.factory import GROUPED, make_model
from tests.models.parts import mlp_of


class Mixing(LlamaMLP):
    """Normalises its channels, so that each row reaches them all."""

    def forward(self, x: Tensor) -> Tensor:
        inner = self.act_fn(self.gate_proj(x)) * self.up_proj(x)
        output: Tensor = self.down_proj(inner / inner.norm(dim=-1, keepdim=True))
        return output


class Alone(nn.Module):
    """One linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.linear(x)
        return output


@pytest.fixture
def model() -> PreTrainedModel:
    return make_model(LlamaConfig(**GROUPED))


def layer_of(model: PreTrainedModel, index: int) -> Any:
    return model.get_submodule(f"model.layers.{index}")


@pytest.mark.parametrize(
    ("width", "step", "expected"),
    [
        (1536, None, tuple(range(0, 1537, 128))),
        (1024, None, tuple(range(0, 1025, 128))),
        (1000, None, tuple(range(0, 1001, 8))),  # 8 is the largest power of two in 1000
        (48, None, tuple(range(0, 49, 4))),  # 8 would leave six levels
        (7, None, tuple(range(8))),
        (48, 20, (0, 20, 40, 48)),
        (48, 64, (0, 48)),
    ],
)
def test_levels_are_steps_of_channels(
    width: int, step: int | None, expected: tuple[int, ...]
) -> None:
    component = Projections(kind="mlp", layer=0, unit_count=width, projections=(), module="")
    assert mlp_levels(component, step) == expected


def test_rows_that_reach_several_channels_are_refused(model: PreTrainedModel) -> None:
    layer_of(model, 1).mlp.__class__ = Mixing
    complaint = (
        r"each row of `model\.layers\.1\.mlp\.gate_proj` must feed one channel of "
        r"`model\.layers\.1\.mlp\.down_proj`"
    )
    with pytest.raises(StructureError, match=complaint):
        read_structure(model)


def test_one_linear_layer_is_no_mlp(model: PreTrainedModel) -> None:
    layer_of(model, 0).mlp = Alone()
    complaint = r"`model\.layers\.0\.mlp\.linear` must read what other linear layers"
    with pytest.raises(StructureError, match=complaint):
        read_structure(model)


def test_a_linear_layer_that_does_not_run_is_refused(model: PreTrainedModel) -> None:
    layer_of(model, 5).adapter = nn.Linear(2, 2)
    with pytest.raises(StructureError, match=r"`model\.layers\.5\.adapter` does not run"):
        read_structure(model)


def test_a_gate_that_is_shut_does_not_hide_a_channel() -> None:
    model = make_model(LlamaConfig(**GROUPED, hidden_act="relu"))
    with torch.no_grad():
        for layer in range(6):
            layer_of(model, layer).mlp.gate_proj.weight.copy_(torch.full((48, 32), -1.0))
    assert mlp_of(read_structure(model).layers[0]).unit_count == 48
