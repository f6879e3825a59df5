"""Models whose numbers overflow or vanish are refused before the search, in a sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, PreTrainedModel

import planner
from search_spaces.errors import ModelError
from tests.models.factory import GROUPED, VOCABULARY, make_model, save_model


def empty_embedding(model: PreTrainedModel) -> None:
    model.get_input_embeddings().weight.zero_()


def faint_embedding(model: PreTrainedModel) -> None:
    model.get_input_embeddings().weight.mul_(1e-30)


def denormal_weights(model: PreTrainedModel) -> None:
    for weight in model.parameters():
        weight.mul_(1e-42)


def overflowing_layer(model: PreTrainedModel) -> None:
    model.get_submodule("model.layers.1.mlp.gate_proj").weight.fill_(1e38)


def growing_layers(model: PreTrainedModel) -> None:
    for layer in range(2):
        model.get_submodule(f"model.layers.{layer}.mlp.down_proj").weight.mul_(1e38)


def large_channels_made_small_again(model: PreTrainedModel) -> None:
    # as many powers of two up as down: the model works, the squares of its channels overflow
    model.get_submodule("model.layers.1.mlp.up_proj").weight.mul_(2.0**90)
    model.get_submodule("model.layers.1.mlp.down_proj").weight.mul_(2.0**-90)


def large_weights_of_small_inputs(model: PreTrainedModel) -> None:
    model.get_submodule("model.layers.1.mlp.up_proj").weight.mul_(2.0**-70)
    model.get_submodule("model.layers.1.mlp.down_proj").weight.mul_(2.0**70)


def idle_mlps(model: PreTrainedModel) -> None:
    for layer in range(2):
        model.get_submodule(f"model.layers.{layer}.mlp.down_proj").weight.zero_()


def search(change: Callable[[PreTrainedModel], None], folder: Path) -> planner.Run:
    model = make_model(LlamaConfig(**GROUPED | {"num_hidden_layers": 2}))
    with torch.no_grad():
        change(model)
    text = folder / "text.txt"
    text.write_text(" ".join(f"w{3 + 31 * index % (VOCABULARY - 3)}" for index in range(900)))
    windows = {"search_windows": 2, "calibration_windows": 4, "window_tokens": 8}
    rescored = {"fresh_windows": 2, "holdout_windows": 2}
    return planner.search(
        str(save_model(model, folder / "model")),
        out=folder / "run",
        data=str(text),
        dtype="float32",
        budget="params<=0.9x",
        population=4,
        evaluations=4,
        **windows,
        **rescored,
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
