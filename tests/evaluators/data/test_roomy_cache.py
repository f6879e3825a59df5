"""A cache with room gives what one that grows gives."""

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from evaluators.data.roomy_cache import RoomyLayer, make_room_
from search_spaces.structure.model import ModelStructure
from tests.models.families import dense

TOKENS = 12


@torch.inference_mode()
def logits(structure: ModelStructure, *, with_room: bool) -> tuple[Tensor, DynamicCache]:
    """Logits of each token after the third, fed one by one, and the cache at the end."""
    model = structure.backbone.model
    ids = torch.arange(3 * TOKENS).reshape(3, TOKENS) * 7 % 90
    found, cache, start = [], None, 0
    for stop in range(3, TOKENS + 1):
        output = model(input_ids=ids[:, start:stop], past_key_values=cache, use_cache=True)
        if cache is None and with_room:
            make_room_(output.past_key_values, TOKENS)
        cache, start = output.past_key_values, stop
        found.append(output.logits[:, -1])
    assert isinstance(cache, DynamicCache)
    return torch.stack(found), cache


@pytest.mark.parametrize("family", ["llama", "gemma3"])  # the second with sliding windows
def test_a_model_computes_the_same(family: str) -> None:
    structure = dense(family)
    expected, grown = logits(structure, with_room=False)
    actual, roomy = logits(structure, with_room=True)
    torch.testing.assert_close(actual, expected)
    usual = [type(layer).__name__ == "DynamicLayer" for layer in grown.layers]
    assert [isinstance(layer, RoomyLayer) for layer in roomy.layers] == usual
    assert any(usual)
    assert roomy.get_seq_length() == grown.get_seq_length() == TOKENS


def test_what_is_written_stays_where_it_is() -> None:
    keys, values = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 4, 8)
    layer = RoomyLayer(keys, values, 6)
    place = layer.update(keys[:, :, :1], values[:, :, :1])[0].data_ptr()
    found, _ = layer.update(keys[:, :, 1:2], values[:, :, 1:2])
    assert found.data_ptr() == place
    assert torch.equal(found, torch.cat([keys, keys[:, :, :2]], dim=2))
    assert layer.get_seq_length() == 6


def test_what_is_no_usual_cache_is_left_alone() -> None:
    for cache in (None, object(), DynamicCache()):
        make_room_(cache, 4)
