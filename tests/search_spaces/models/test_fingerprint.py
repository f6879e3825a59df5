"""Two models are one if their weights are, whatever the dtype."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, PreTrainedModel

from search_spaces.models.fingerprint import identify
from tests.models.factory import GROUPED, make_model


@pytest.fixture
def model() -> PreTrainedModel:
    return make_model(LlamaConfig(**GROUPED))


def test_parameters_are_counted(model: PreTrainedModel) -> None:
    hidden, inner, vocabulary = 32, 48, 96
    layer = 2 * hidden * 32 + 2 * hidden * 16 + 3 * hidden * inner + 2 * hidden
    assert identify(model).params == 2 * vocabulary * hidden + 6 * layer + hidden
    assert identify(model).architecture == "LlamaForCausalLM"


def test_the_same_weights_are_the_same_model(model: PreTrainedModel) -> None:
    assert identify(model) == identify(make_model(LlamaConfig(**GROUPED)))


def test_dtypes_that_hold_the_weights_are_the_same_model(model: Any) -> None:
    half = model.to(torch.bfloat16)
    identity = identify(half)
    assert identify(half.to(torch.float32)) == identity
    assert identify(half.to(torch.float64)) == identity


def test_other_weights_are_another_model(model: PreTrainedModel) -> None:
    identity = identify(model)
    for weight in model.parameters():
        weight.mul_(1.001)
    assert identify(model).fingerprint != identity.fingerprint


def test_each_tensor_counts(model: PreTrainedModel) -> None:
    seen = {identify(model).fingerprint}
    for weight in model.parameters():
        weight.view(-1)[0] += 1
        seen.add(identify(model).fingerprint)
    assert len(seen) == 1 + len(list(model.parameters()))


def test_swapped_layers_are_another_model(model: Any) -> None:
    identity = identify(model)
    layers = model.model.layers
    layers[0], layers[1] = layers[1], layers[0]
    assert identify(model).fingerprint != identity.fingerprint
    assert identify(model).params == identity.params
