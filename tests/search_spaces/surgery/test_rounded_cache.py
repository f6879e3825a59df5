"""Keys and values as a runtime's cache keeps them, against rounding by the package `gguf`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, quants
from torch import Tensor, nn

from search_spaces.errors import SettingsError, StructureError
from search_spaces.space.block_options import DENSE_OPTIONS
from search_spaces.space.number_format import CACHE_FORMATS
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.layer_builder import LayerBuilder
from search_spaces.surgery.rounded_cache import RoundedCache, WithRoundedCache
from search_spaces.surgery.sort import sorted_as_is
from tests.models import tiny
from tests.models.families import FAMILIES

HEADS = 2
FEATURES = 32
"""Of a head: one block."""


def opt() -> ModelStructure:
    """Of no rotary positions, so that keys are cached as their projection gives them."""
    size = HEADS * FEATURES
    return FAMILIES["opt"].structure(
        layers=1, hidden_size=size, word_embed_proj_dim=size, num_attention_heads=HEADS
    )


def rounded(states: Tensor, name: str) -> Tensor:
    """Features ``(..., heads · features)`` rounded in blocks of 32."""
    kind = GGMLQuantizationType[name]
    rows = states.reshape(-1, FEATURES).numpy()
    return torch.from_numpy(quants.dequantize(quants.quantize(rows, kind), kind)).view_as(states)


@torch.no_grad()
@pytest.mark.parametrize("name", ["Q8_0", "Q4_0"])
def test_an_attention_reads_what_its_projections_give_rounded(name: str) -> None:
    structure = opt()
    options = [
        (DENSE_OPTIONS, replace(DENSE_OPTIONS, cache=CACHE_FORMATS[name]))
        for _ in structure.components
    ]
    builder = LayerBuilder(sorted_as_is(structure), options)
    dense, backbone = tiny.dense_counts(structure), structure.backbone
    inputs = backbone.enter(tiny.windows())
    choices = dense.copy()
    choices[0] += structure.components[0].unit_count + 1
    found = backbone.run_layer(builder.layer(0, choices), inputs.hidden, inputs.calls[0])
    (layer,) = backbone.layers
    hooks = [
        layer.get_submodule(f"self_attn.{path}").register_forward_hook(
            lambda _module, _args, output: rounded(output, name)
        )
        for path in ("k_proj", "v_proj")
    ]
    expected = backbone.run_layer(layer, inputs.hidden, inputs.calls[0])
    for hook in hooks:
        hook.remove()
    plain = backbone.run_layer(builder.layer(0, dense), inputs.hidden, inputs.calls[0])
    assert found.numpy() == pytest.approx(expected.numpy(), rel=1e-5, abs=1e-6)
    assert np.abs((found - plain).numpy()).max() > 1e-5


def test_gradients_pass_as_if_nothing_were_rounded() -> None:
    keys = torch.randn(1, 2, 3, FEATURES, generator=torch.Generator().manual_seed(0))
    leaf = keys.clone().requires_grad_()
    read, _ = RoundedCache(CACHE_FORMATS["Q4_0"]).update(leaf, leaf, 0)
    assert not torch.equal(read, leaf)
    (gradient,) = torch.autograd.grad(read.sum(), leaf)
    assert torch.equal(gradient, torch.ones_like(leaf))


def test_heads_that_are_no_whole_blocks_are_refused() -> None:
    states = torch.ones(1, 2, 3, FEATURES + 8)
    with pytest.raises(SettingsError, match="multiple of 32 features, and this model's have 40"):
        RoundedCache(CACHE_FORMATS["Q8_0"]).update(states, states, 0)


def test_a_layer_that_reads_no_cache_is_refused() -> None:
    class Deaf(nn.Module):
        def forward(self, hidden: Tensor, past_key_values: object = None) -> Tensor:
            return hidden if past_key_values is None else 2 * hidden

    layer = WithRoundedCache(Deaf(), CACHE_FORMATS["Q8_0"])
    with pytest.raises(StructureError, match="hands its keys and values to the cache"):
        layer(torch.ones(1, 2, 3))
