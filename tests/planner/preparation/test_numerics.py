"""Models whose numbers overflow or vanish are refused before the search, in a sentence."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, PreTrainedModel

import planner
from search_spaces.errors import ModelError
from tests.models.factory import GROUPED, VOCABULARY, make_model, save_model


def embedding(model: PreTrainedModel) -> Tensor:
    weight: Tensor = model.get_parameter("model.embed_tokens.weight")
    return weight


def matrix(model: PreTrainedModel, layer: int, name: str) -> Tensor:
    weight: Tensor = model.get_parameter(f"model.layers.{layer}.mlp.{name}.weight")
    return weight


def empty_embedding(model: PreTrainedModel) -> None:
    embedding(model).zero_()


def faint_embedding(model: PreTrainedModel) -> None:
    embedding(model).mul_(1e-30)


def denormal_weights(model: PreTrainedModel) -> None:
    for weight in model.parameters():
        weight.mul_(1e-42)


def overflowing_layer(model: PreTrainedModel) -> None:
    matrix(model, 1, "gate_proj").fill_(1e38)


def growing_layers(model: PreTrainedModel) -> None:
    for layer in range(2):
        matrix(model, layer, "down_proj").mul_(1e38)


def large_channels_made_small_again(model: PreTrainedModel) -> None:
    # as many powers of two up as down: the model works, the squares of its channels overflow
    matrix(model, 1, "up_proj").mul_(2.0**90)
    matrix(model, 1, "down_proj").mul_(2.0**-90)


def large_weights_of_small_inputs(model: PreTrainedModel) -> None:
    matrix(model, 1, "up_proj").mul_(2.0**-70)
    matrix(model, 1, "down_proj").mul_(2.0**70)


def idle_mlps(model: PreTrainedModel) -> None:
    for layer in range(2):
        matrix(model, layer, "down_proj").zero_()


def search(change: Callable[[PreTrainedModel], None], folder: Path) -> planner.Run:
    model = make_model(LlamaConfig(**GROUPED | {"num_hidden_layers": 2}))
    with torch.no_grad():
        change(model)
    text = folder / "text.txt"
    words = np.random.default_rng(0).integers(3, VOCABULARY, size=900)
    text.write_text(" ".join(f"w{word}" for word in words))
    return planner.search(
        str(save_model(model, folder / "model")),
        out=folder / "run",
        data=str(text),
        dtype="float32",
        budget="params<=0.9x",
        population=4,
        evaluations=4,
        search_windows=2,
        calibration_windows=4,
        fresh_windows=2,
        holdout_windows=2,
        window_tokens=8,
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (empty_embedding, "logits must differ from token to token"),
        (faint_embedding, "hidden states must not vanish.*enter layer 0"),
        (denormal_weights, "logits must differ from token to token"),
        (overflowing_layer, "logits must be finite.*overflow"),
        (growing_layers, "overflow"),
        (large_channels_made_small_again, r"must be finite.*mlp\.down_proj. of layer 1"),
        (large_weights_of_small_inputs, r"sensitivities must be finite.*layers\.1\.mlp"),
    ],
)
def test_numbers_that_overflow_or_vanish_are_refused_before_the_search(
    change: Callable[[PreTrainedModel], None], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=reason) as refusal:
        search(change, tmp_path)
    assert len(str(refusal.value)) <= 300


def test_layers_that_do_nothing_are_pruned_at_no_loss(tmp_path: Path) -> None:
    run = search(idle_mlps, tmp_path)
    assert run.best("params<=0.9x").quality["kl"].value == pytest.approx(0.0, abs=1e-6)
