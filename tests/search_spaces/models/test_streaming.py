"""Layers on disk: where they are, how long they stay, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from search_spaces.errors import ModelError
from search_spaces.models import memory
from search_spaces.models.loading import load_model
from search_spaces.models.streaming import LayerStream
from search_spaces.structure.backbone import Backbone
from search_spaces.surgery.slice_and_cut import narrowed
from tests.models.candidates import random_tokens
from tests.models.streamed import opened

LAYER = "model.layers.2."
WEIGHT = f"{LAYER}mlp.up_proj.weight"
Weights = dict[str, Tensor]


@pytest.fixture
def folder(saved_llama: Path, tmp_path: Path) -> Path:
    """A copy of the saved Llama to do harm to."""
    copied = tmp_path / "model"
    shutil.copytree(saved_llama, copied)
    return copied


def streamed(folder: Path) -> tuple[Backbone, LayerStream]:
    loaded = load_model(str(folder), offload="always")
    assert loaded.stream is not None
    return Backbone(loaded.model, loaded.stream), loaded.stream


def rewrite(folder: Path, change: Callable[[Weights], Weights]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def is_absent(layer: nn.Module) -> bool:
    return all(weight.is_meta for weight in layer.parameters())


def test_a_layer_is_there_for_as_long_as_anyone_needs_it(folder: Path) -> None:
    backbone, stream = streamed(folder)
    stored = load_file(folder / "model.safetensors")
    with stream.resident(2) as layer:
        with backbone.resident(2) as same:
            assert same is layer
        assert torch.equal(layer.get_parameter("mlp.up_proj.weight"), stored[WEIGHT])
        others = [other for index, other in enumerate(backbone.layers) if index != 2]
        assert all(map(is_absent, others))
    assert is_absent(layer)


def test_a_layer_that_fails_is_forgotten_too(folder: Path) -> None:
    backbone, _ = streamed(folder)
    with pytest.raises(RuntimeError):
        backbone.layers[2](torch.zeros(1, 3, 5))
    assert is_absent(backbone.layers[2])
    tokens = random_tokens()
    whole = load_model(str(folder)).model
    logits = backbone.model(tokens, use_cache=False).logits
    assert torch.equal(logits, whole(tokens, use_cache=False).logits)


def test_weights_that_inference_reads_can_be_followed_by_gradients(folder: Path) -> None:
    backbone, _ = streamed(folder)
    with torch.inference_mode():
        context = backbone.resident(0)
        layer = context.__enter__()
    weight = layer.get_parameter("mlp.up_proj.weight")
    weight.requires_grad = True
    weight.sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    context.__exit__(None, None, None)


def test_a_change_holds_each_time_that_the_layer_is_read(folder: Path) -> None:
    backbone, _ = streamed(folder)
    stored = load_file(folder / "model.safetensors")[WEIGHT]

    def double_(layer: nn.Module) -> None:
        layer.get_parameter("mlp.up_proj.weight").mul_(2)

    backbone.change_(2, double_)
    assert is_absent(backbone.layers[2])
    for _ in range(2):
        with backbone.resident(2) as layer:
            assert torch.equal(layer.get_parameter("mlp.up_proj.weight"), 2 * stored)


def test_a_narrow_layer_runs_its_own_modules(folder: Path) -> None:
    """accelerate leaves each module a forward of its own, which copies would inherit."""
    side = opened(folder, "always")
    backbone, found = side.structure.backbone, side.structure.layers[0]
    inputs = backbone.enter(random_tokens())
    with backbone.resident(0) as layer:
        bare = narrowed(layer, [(component, 0) for component in found.components])
        result = backbone.run_layer(bare, inputs.hidden, inputs.calls[0])
    assert torch.equal(result, inputs.hidden)


def test_all_weights_pass_by_in_the_order_of_their_names(folder: Path) -> None:
    backbone, stream = streamed(folder)
    stored = load_file(folder / "model.safetensors")
    names = []
    for name, weight in stream.weights():
        assert torch.equal(weight, stored[name])
        assert sum(not is_absent(layer) for layer in backbone.layers) <= 1
        names.append(name)
    assert names == sorted(stored)


def test_rotary_tables_are_real_and_keep_their_precision(folder: Path) -> None:
    tables = [
        load_model(str(folder), dtype=torch.bfloat16, offload=offload).model.get_buffer(
            "model.rotary_emb.inv_freq"
        )
        for offload in ("never", "always")
    ]
    expected = 10000.0 ** -(torch.arange(4) / 4)
    for table in tables:
        assert table.dtype == torch.float32
        torch.testing.assert_close(table, expected)


def test_a_checkpoint_without_the_models_prefix_is_streamed(
    folder: Path, saved_llama: Path
) -> None:
    rewrite(folder, lambda w: {name.removeprefix("model."): weight for name, weight in w.items()})
    assert load_model(str(folder), offload="always").identity == (
        load_model(str(saved_llama)).identity
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda w: {name: weight for name, weight in w.items() if name != WEIGHT},
            rf"lacks 1, such as `{WEIGHT}`; get the whole",
        ),
        (
            lambda w: {name.replace("layers", "components"): weight for name, weight in w.items()},
            r"lacks 54, such as `model\.layers\.0\.input_layernorm\.weight`",
        ),
        (lambda w: w | {WEIGHT: torch.ones(3)}, rf"`{WEIGHT}` of .* is 3 in place of 48 × 32"),
        (lambda w: w | {WEIGHT: w[WEIGHT] * torch.nan}, rf"`{WEIGHT}` of .* holds NaN"),
    ],
    ids=["missing", "foreign", "misshapen", "nan"],
)
def test_damaged_weights_are_refused(
    change: Callable[[Weights], Weights], said: str, folder: Path
) -> None:
    rewrite(folder, change)
    with pytest.raises(ModelError, match=said):
        load_model(str(folder), offload="always")


def test_quantised_weights_are_refused(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    quantised = config | {"quantization_config": {"quant_method": "mxfp4"}}
    path.write_text(json.dumps(quantised), encoding="utf-8")
    with pytest.raises(ModelError, match=r"holds quantised ones; .* with `--offload never`"):
        load_model(str(folder), offload="always")


def test_a_missing_file_is_named_and_read_once_it_is_back(folder: Path) -> None:
    backbone, _ = streamed(folder)
    kept = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    with (
        pytest.raises(ModelError, match=r"must stay as they are, and `.*model\.safetensors`"),
        backbone.resident(0),
    ):
        pass
    assert is_absent(backbone.layers[0])
    with pytest.raises(ModelError, match="must stay as they are"):
        backbone.model(random_tokens(), use_cache=False)
    (folder / "model.safetensors").write_bytes(kept)
    with backbone.resident(0) as layer:
        assert not any(weight.is_meta for weight in layer.parameters())
    assert is_absent(layer)


@pytest.mark.parametrize(("spare", "streams"), [(0, False), (-1, True)])
def test_what_does_not_fit_is_streamed(
    spare: int, streams: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = load_file(folder / "model.safetensors").values()
    need = sum(2 * weight.numel() for weight in weights) + memory.WORKING_BYTES  # bfloat16
    monkeypatch.setattr(memory, "available_bytes", lambda _: need + spare)
    loaded = load_model(str(folder), dtype=torch.bfloat16, offload="auto")
    assert (loaded.stream is not None) == streams
