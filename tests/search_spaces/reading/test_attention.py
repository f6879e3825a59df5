"""Attention that is wired in unknown ways is refused by name; levels are numbers of groups."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaAttention

from search_spaces.errors import StructureError
from search_spaces.reading.read import read_structure
from search_spaces.space.levels import fine_levels
from search_spaces.structure.projections import Projections
from tests.models import parts
from tests.models.factory import GATED, GROUPED, make_model


class Shuffled(nn.Module):
    """Reads the heads feature by feature, and not one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 32, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        interleaved = hidden.view(*hidden.shape[:-1], 4, 8).transpose(-1, -2).flatten(-2)
        output: Tensor = self.linear(interleaved)
        return output


class Fixed(LlamaAttention):
    """Knows its width from nowhere."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.q_proj(hidden_states).shape[-1] != 32:
            raise ValueError("this attention has four heads")
        return super().forward(hidden_states, *args, **kwargs)


class Louder(LlamaAttention):
    """Scales by its width, so that removing some heads changes the others."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        output, weights = super().forward(hidden_states, *args, **kwargs)
        return output * getattr(self.q_proj, "out_features", 16), weights


@pytest.fixture
def model() -> PreTrainedModel:
    return make_model(LlamaConfig(**GROUPED))


def attention_of(model: PreTrainedModel, layer: int) -> Any:
    return model.get_submodule(f"model.layers.{layer}.self_attn")


def test_levels_are_every_number_of_groups() -> None:
    component = Projections(kind="attention", layer=0, unit_count=3, projections=(), module="")
    assert fine_levels(component) == (0, 1, 2, 3)


def test_two_linear_layers_after_the_core_are_refused(model: PreTrainedModel) -> None:
    attention_of(model, 1).o_proj = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    complaint = r"end in one linear layer, got 2 after the core of `model\.layers\.1\.self_attn`"
    with pytest.raises(StructureError, match=complaint):
        read_structure(model)


def test_heads_that_are_not_one_after_another_are_refused(model: PreTrainedModel) -> None:
    attention_of(model, 2).o_proj = Shuffled()
    complaint = r"inputs of `model\.layers\.2\.self_attn\.o_proj\.linear` must be the heads"
    with pytest.raises(StructureError, match=complaint):
        read_structure(model)


@pytest.mark.parametrize("odd", [Fixed, Louder])
def test_attention_that_cannot_be_made_narrower_is_one_unit(
    odd: type[LlamaAttention], model: PreTrainedModel
) -> None:
    attention_of(model, 3).__class__ = odd
    layers = read_structure(model).layers
    assert [parts.attention_of(layer).unit_count for layer in layers] == [2, 2, 2, 1, 2, 2]
    whole, narrow = (parts.attention_of(layers[index]) for index in (3, 2))
    assert whole.cached_features == 2 * narrow.cached_features
    assert whole.core_features == 2 * narrow.core_features
    assert not any(projection.units.any() for projection in whole.projections)


def test_a_single_group_can_only_be_kept_or_dropped() -> None:
    model = make_model(LlamaConfig(**GATED, num_key_value_heads=1))
    attention = parts.attention_of(read_structure(model).layers[0])
    assert attention.unit_count == 1
    assert not attention.attributes
    assert fine_levels(attention) == (0, 1)
    for projection in attention.projections:
        assert not projection.units.any()
    assert [len(projection.units) for projection in attention.projections] == [32, 8, 8, 32]


def test_attributes_are_found_in_bfloat16_too() -> None:
    half = make_model(LlamaConfig(**GROUPED)).to(torch.bfloat16)  # type: ignore[arg-type]
    structure = read_structure(half)
    assert [parts.attention_of(layer).unit_count for layer in structure.layers] == [2] * 6
